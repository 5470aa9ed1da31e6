"""Finding the images that files, folders, globs and WebDataset shards hold, any number of them."""

import glob
import heapq
import json
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from braceexpand import braceexpand

from transxnet.data.reading.file_search import glob_files, walk_images
from transxnet.data.reading.tar_shards import ImageLocation, is_shard, shard_images
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError, describe_write_error

ACCEPTED = "Accepted: image files, folders, globs, and WebDataset shards (.tar, shard-{0000..0009}.tar)."


def find_images(inputs: Sequence[str | Path]) -> Iterator[str]:
    """The files that inputs stand for, one after the other.

    Args:
        inputs: a file is taken as it is; of a folder, the image files at any depth in order, but for hidden files and
            folders; of a glob, what it finds, in order; of names in braces, each as one of these.

    Raises:
        UserError: an input that is none of these, or a folder that can't be read.
    """
    for text in map(str, inputs):
        if os.path.isfile(text):
            yield text
        elif os.path.isdir(text):
            yield from walk_images(text)
        elif (names := _expand_braces(text)) != [text]:
            yield from find_images(names)
        elif glob.has_magic(text):
            found = False
            for name in sorted_on_disk(glob_files(text)):
                if os.path.isfile(name):
                    found = True
                    yield name
            if not found:
                raise UserError(f"nothing matches {text!r}. {ACCEPTED}")
        else:
            raise UserError(f"there is no file or folder {text!r}. {ACCEPTED}")


def _expand_braces(text: str) -> list[str]:
    """``"a-{000..010}.tar"`` and ``"{cats,dogs}/*.jpg"`` -> the names that they stand for, in order."""
    try:
        return list(braceexpand(text, escape=False))
    except ValueError:  # unbalanced braces
        return [text]


def find_locations(inputs: Sequence[str | Path]) -> Iterator[ImageLocation]:
    """The images that inputs stand for: those of :func:`find_images`, and of a shard the images within.

    Raises:
        UserError: what :func:`find_images` refuses, and a shard that cannot be read to its end.
    """
    for path in find_images(inputs):
        if is_shard(path):
            yield from shard_images(path)
        else:
            yield ImageLocation(path, path)


def sorted_on_disk(names: Iterable[str], in_memory: int = 100_000) -> Iterator[str]:
    """``sorted(names)``, with no more than some of them in memory."""
    names = iter(names)
    runs: list[Iterator[str]] = []
    with ExitStack() as files:
        while part := sorted(islice(names, in_memory)):
            if not runs and len(part) < in_memory:
                yield from part
                return
            run = files.enter_context(tempfile.TemporaryFile("w+", encoding="ascii"))
            run.writelines(json.dumps(name) + "\n" for name in part)
            run.seek(0)
            runs.append(map(json.loads, run))
        yield from heapq.merge(*runs)


class ImageList:
    """The images that inputs stand for, found once and kept in a file: any number of them, for any number of processes.

    The file is removed with the list, by the process that made it.

    Args:
        inputs: as :func:`find_images` takes them.

    Raises:
        UserError: what :func:`find_locations` refuses, or the file can't be written.
    """

    def __init__(self, inputs: Iterable[str | Path]):
        self._count = 0
        try:
            descriptor, self._path = tempfile.mkstemp(prefix="transxnet-images-")
            weakref.finalize(self, _remove, self._path, os.getpid())
            with open(descriptor, "wb") as file:
                for location in find_locations([str(one) for one in inputs]):
                    file.write(location.to_line())
                    self._count += 1
        except OSError as error:
            raise WriteError(describe_write_error(Path(tempfile.gettempdir()), error)) from error

    def __len__(self) -> int:
        return self._count

    def lines(self) -> Iterator[bytes]:
        """A line for each image; :meth:`ImageLocation.from_line` reads them."""
        with open(self._path, "rb") as file:
            yield from file


def _remove(path: str, maker: int) -> None:
    if os.getpid() == maker:  # a worker that was forked holds the list too, and ends before the others
        with suppress(OSError):
            os.remove(path)


Inputs = ImageList | Sequence[str | Path]
"""Files, folders, globs and shards, or the images that were found there."""
