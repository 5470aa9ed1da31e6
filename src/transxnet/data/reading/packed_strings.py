"""Memory-efficient sequences of millions of file names."""

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class _LazyStrings(Sequence[str]):
    """Strings that are created on access."""

    @abstractmethod
    def _make(self, index: int) -> str:
        """The string at a non-negative index."""

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._make(int(index) % len(self))


class PackedStrings(_LazyStrings):
    """Strings in one block of bytes, with 8 bytes overhead each instead of about 100 in a list.

    Forked processes share the block: reading an element writes to none of its pages, whereas every string in a list
    has a reference count.

    Args:
        strings: file names; bytes that are not valid text are kept as surrogate escapes.
    """

    def __init__(self, strings: Iterable[str]):
        block, ends = bytearray(), bytearray()
        for string in strings:
            block += os.fsencode(string)
            ends += len(block).to_bytes(8, "little")
        self._block = bytes(block)
        self._ends = np.frombuffer(bytes(ends), "<i8")

    def __len__(self) -> int:
        return len(self._ends)

    def _make(self, index: int) -> str:
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(self._block[start : self._ends[index]])


class PathsBelow(_LazyStrings):
    """Paths of names below a folder, created on access."""

    def __init__(self, root: str, names: Sequence[str]):
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def _make(self, index: int) -> str:
        return os.path.join(self.root, self.names[index])
