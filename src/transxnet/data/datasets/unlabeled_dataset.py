"""The PyTorch dataset of images without labels, for prediction."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from transxnet.data.reading.image_decoding import UnreadableImage, open_image
from transxnet.data.reading.image_search import ImageList, Inputs
from transxnet.data.reading.pixels import Pixels
from transxnet.data.reading.tar_shards import ImageLocation

Read = Callable[[str | Path | bytes], Pixels]
"""Decodes an image file or its bytes; raises UnreadableImage."""


class UnlabeledDataset(IterableDataset):
    """(path, tensor or None, error or None) of each image.

    Args:
        inputs: a list of the images, or inputs as for :func:`~transxnet.data.reading.image_search.find_images`.
        transform: transform from an image to a tensor.
        batch_size: batch size of the loader.
        read: decodes an image, by default to RGB.

    Each of n workers takes every n-th whole batch, so the loader, which polls them in order, keeps the order.
    """

    def __init__(self, inputs: Inputs, transform: Callable[[Any], Tensor], batch_size: int, read: Read = open_image):
        self.locations = inputs if isinstance(inputs, ImageList) else ImageList(inputs)
        self.transform, self.batch_size, self.read = transform, batch_size, read

    def __iter__(self) -> Iterator[tuple[str, Tensor | None, str | None]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for i, line in enumerate(self.locations.lines()):
            if i // self.batch_size % workers == number:
                location = ImageLocation.from_line(line)
                yield location.name, *load_or_error(location, self.transform, read=self.read)


def load_or_error(
    location: ImageLocation, transform: Callable[[Any], Tensor], root: str = "", read: Read = open_image
) -> tuple[Tensor | None, str | None]:
    """Load and transform an image below the root; return the tensor, or None and the error.

    Any error is one of this image, such as a size that does not fit in memory: the others are still predicted.
    """
    try:
        return transform(read(location.read(root))), None
    except UnreadableImage as error:
        return None, str(error)
    except Exception as error:
        return None, describe_image_error(error)


def describe_image_error(error: Exception) -> str:
    """Describe the error of processing one image, on one line."""
    first_line = str(error).partition("\n")[0]
    return "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {first_line}"
