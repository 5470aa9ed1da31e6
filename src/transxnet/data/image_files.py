"""Image files without labels, any number of them, for prediction."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from transxnet.data.folders import glob_files, is_image
from transxnet.data.images import UnreadableImage, open_image
from transxnet.errors import UserError


def find_images(inputs: Sequence[str | Path]) -> Iterator[str]:
    """The files that inputs stand for, one after the other.

    Args:
        inputs: a file is taken as it is; of a folder, the image files at any depth in order; of a glob, what it finds,
            in order.

    Raises:
        UserError: an input that is none of these.
    """
    for text in map(str, inputs):
        if os.path.isfile(text):
            yield text
        elif os.path.isdir(text):
            yield from _walk(text)
        elif glob.has_magic(text):
            found = False
            for name in sorted(glob_files(text)):
                if os.path.isfile(name):
                    found = True
                    yield name
            if not found:
                raise UserError(f"nothing matches {text!r}. Accepted: image files, folders and globs.")
        else:
            raise UserError(f"there is no file or folder {text!r}. Accepted: image files, folders and globs.")


def _walk(folder: str) -> Iterator[str]:
    for directory, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(directory, name) for name in sorted(files) if is_image(name))


class FilesDataset(IterableDataset):
    """(path, tensor or None, error or None) of each file.

    Args:
        inputs: as :func:`find_images` takes them.
        transform: from a picture to a tensor.
        batch_size: of the loader.

    Of n workers, each takes every n-th whole batch, so that the loader, which asks them in turn, keeps the order.
    """

    def __init__(self, inputs: Sequence[str], transform: Callable[[Image.Image], Tensor], batch_size: int):
        self.inputs, self.transform, self.batch_size = inputs, transform, batch_size

    def __iter__(self) -> Iterator[tuple[str, Tensor | None, str | None]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for i, path in enumerate(find_images(self.inputs)):
            if i // self.batch_size % workers != number:
                continue
            try:
                yield path, self.transform(open_image(path)), None
            except UnreadableImage as error:
                yield path, None, str(error)
