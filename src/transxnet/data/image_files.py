"""Image files without labels, and images in WebDataset shards, any number of them, for prediction."""

import glob
import heapq
import json
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from transxnet.data.folders import glob_files, walk_images
from transxnet.data.images import UnreadableImage, open_image
from transxnet.data.shard_files import Source, expand_braces, is_shard, shard_images
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
        elif (names := expand_braces(text)) and (first := next(names)) != text:
            yield from find_images([first])
            for name in names:
                yield from find_images([name])
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


def find_sources(inputs: Sequence[str | Path]) -> Iterator[Source]:
    """The images that inputs stand for: those of :func:`find_images`, and of a shard the images within.

    Raises:
        UserError: what :func:`find_images` refuses, and a shard that cannot be read to its end.
    """
    for path in find_images(inputs):
        if is_shard(path):
            yield from shard_images(path)
        else:
            yield Source(path, path)


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


class SourceList:
    """The images that inputs stand for, found once and kept in a file: any number of them, for any number of processes.

    The file is removed with the list, by the process that made it.

    Args:
        inputs: as :func:`find_images` takes them.

    Raises:
        UserError: what :func:`find_sources` refuses, or the file can't be written.
    """

    def __init__(self, inputs: Iterable[str | Path]):
        self._count = 0
        try:
            descriptor, self._path = tempfile.mkstemp(prefix="transxnet-images-")
            weakref.finalize(self, _remove, self._path, os.getpid())
            with open(descriptor, "wb") as file:
                for source in find_sources([str(one) for one in inputs]):
                    file.write(source.to_line())
                    self._count += 1
        except OSError as error:
            raise WriteError(describe_write_error(Path(tempfile.gettempdir()), error)) from error

    def __len__(self) -> int:
        return self._count

    def lines(self) -> Iterator[bytes]:
        """A line for each image; :meth:`Source.of_line` reads them."""
        with open(self._path, "rb") as file:
            yield from file


def _remove(path: str, maker: int) -> None:
    if os.getpid() == maker:  # a worker that was forked holds the list too, and ends before the others
        with suppress(OSError):
            os.remove(path)


Inputs = SourceList | Sequence[str | Path]
"""Files, folders, globs and shards, or the images that were found there."""


class FilesDataset(IterableDataset):
    """(path, tensor or None, error or None) of each image.

    Args:
        inputs: a list of the images, or inputs as :func:`find_images` takes them.
        transform: from a picture to a tensor.
        batch_size: of the loader.

    Of n workers, each takes every n-th whole batch, so that the loader, which asks them in turn, keeps the order.
    """

    def __init__(self, inputs: Inputs, transform: Callable[[Image.Image], Tensor], batch_size: int):
        self.sources = inputs if isinstance(inputs, SourceList) else SourceList(inputs)
        self.transform, self.batch_size = transform, batch_size

    def __iter__(self) -> Iterator[tuple[str, Tensor | None, str | None]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for i, line in enumerate(self.sources.lines()):
            if i // self.batch_size % workers == number:
                source = Source.of_line(line)
                yield source.name, *decoded(source, self.transform)


def decoded(
    source: Source, transform: Callable[[Image.Image], Tensor], root: str = ""
) -> tuple[Tensor | None, str | None]:
    """The tensor that a transform makes of an image below the root, or None and why it could not be read."""
    try:
        return transform(open_image(source.read(root))), None
    except UnreadableImage as error:
        return None, str(error)
