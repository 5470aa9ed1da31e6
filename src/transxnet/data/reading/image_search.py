"""Find images in files, folders, globs and WebDataset shards, in any number."""

import glob
import heapq
import json
import os
import tempfile
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from braceexpand import braceexpand

from transxnet.data.reading.file_search import glob_files, walk_images
from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.data.reading.table_files import is_table
from transxnet.data.reading.table_paths import table_images
from transxnet.data.reading.tar_shards import ImageLocation, is_shard, shard_images
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError, describe_write_error

ACCEPTED = (
    "Accepted: image files, tables of images, folders, globs, and WebDataset shards (.tar, shard-{0000..0009}.tar)."
)


def find_images(
    inputs: Sequence[str | Path],
    on_other: Callable[[str], object] | None = None,
    extensions: Collection[str] = EXTENSIONS,
) -> Iterator[str]:
    """Iterate over the image files that the inputs match.

    Args:
        inputs: image files, taken as they are; tables (CSV, TSV, JSON Lines, Parquet), for the images in their path
            column; folders, searched for image files to any depth in order, without hidden files and folders; globs,
            whose matches are taken in order; names with braces, each expansion as one of these.
        on_other: called with the other files of folders, which are not images by their extension.
        extensions: extensions of the images in folders, in lower case.

    Raises:
        UserError: an input that matches nothing, or a folder that cannot be read.
    """
    for text in map(str, inputs):
        if os.path.isfile(text):
            yield from table_images(Path(text)) if is_table(text) else [text]
        elif os.path.isdir(text):
            yield from walk_images(text, on_other, extensions)
        elif (names := _expand_braces(text)) != [text]:
            yield from find_images(names, on_other, extensions)
        elif glob.has_magic(text):
            found = False
            for name in sorted_on_disk(glob_files(text)):
                if os.path.isfile(name):
                    found = True
                    yield name
            if not found:
                raise UserError(f"no file matches {text!r}. {ACCEPTED}")
        else:
            raise UserError(f"{text!r} does not exist. {ACCEPTED}")


def _expand_braces(text: str) -> list[str]:
    """Expand ``"a-{000..010}.tar"`` and ``"{cats,dogs}/*.jpg"`` to names, in order."""
    try:
        return list(braceexpand(text, escape=False))
    except ValueError:  # unbalanced braces
        return [text]


def find_locations(
    inputs: Sequence[str | Path],
    on_other: Callable[[str], object] | None = None,
    extensions: Collection[str] = EXTENSIONS,
) -> Iterator[ImageLocation]:
    """Iterate over the images that the inputs match: the files of :func:`find_images`, and the images inside shards.

    Raises:
        UserError: as :func:`find_images`, or a shard that cannot be read to its end.
    """
    for path in find_images(inputs, on_other, extensions):
        if is_shard(path):
            yield from shard_images(path, extensions)
        else:
            yield ImageLocation(path, path)


def sorted_on_disk(names: Iterable[str], in_memory: int = 100_000) -> Iterator[str]:
    """``sorted(names)`` with a limited number of names in memory."""
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
    """A list of the images that the inputs match, stored in a file: any number of images, for any number of processes.

    The file is deleted with the list, by the process that created it.

    Args:
        inputs: as for :func:`find_images`.
        extensions: as for :func:`find_images`.

    Attributes:
        skipped: number of files in the folders that are not images, by extension.

    Raises:
        UserError: as :func:`find_locations`, or the file cannot be written.
    """

    def __init__(self, inputs: Iterable[str | Path], extensions: Collection[str] = EXTENSIONS):
        self._count = 0
        self.skipped: Counter[str] = Counter()
        try:
            descriptor, self._path = tempfile.mkstemp(prefix="transxnet-images-")
            weakref.finalize(self, _remove, self._path, os.getpid())
            with open(descriptor, "wb") as file:
                for location in find_locations([str(one) for one in inputs], self._skip, extensions):
                    file.write(location.to_line())
                    self._count += 1
        except OSError as error:
            raise WriteError(describe_write_error(Path(tempfile.gettempdir()), error)) from error

    def __len__(self) -> int:
        return self._count

    def _skip(self, path: str) -> None:
        self.skipped[os.path.splitext(path)[1].lower() or os.path.basename(path)] += 1

    def lines(self) -> Iterator[bytes]:
        """Iterate over the lines, one for each image; :meth:`ImageLocation.from_line` reads them."""
        with open(self._path, "rb") as file:
            yield from file


def _remove(path: str, maker: int) -> None:
    if os.getpid() == maker:  # a forked worker has the list too, and exits earlier
        with suppress(OSError):
            os.remove(path)


Inputs = ImageList | Sequence[str | Path]
"""Files, folders, globs and shards, or the list of images found in them."""
