"""Base class of the PyTorch datasets: reads and seeds items, and replaces images that cannot be read."""

import logging
import random
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.reading.image_decoding import UnreadableImage

_logger = logging.getLogger(__name__)


class ImageDataset(Dataset):
    """Items made from the images of a set.

    The index is a position, or (position, seed) as :class:`~transxnet.data.loading.samplers.EpochSampler` yields it.
    With a seed, an item's randomness does not depend on the worker that computes it. An image that became unreadable is
    replaced by the next readable one, and logged by name.

    Attributes:
        images: the images and their labels.
        collate: makes a batch of items; None for PyTorch's default.
    """

    collate: Callable[[Sequence[Any]], Any] | None = None

    def __init__(self, images: ImageCollection):
        self.images: Any = images

    def __len__(self) -> int:
        return len(self.images)

    def load(self, position: int) -> Any:
        """Read everything that an item needs from files; raises UnreadableImage."""
        return self.images.pixels(position)

    @abstractmethod
    def item(self, loaded: Any, position: int) -> Any:
        """Make the item from the result of :meth:`load`."""

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        position, seed = key if isinstance(key, tuple) else (key, None)
        loaded, position = self._readable(position)
        if seed is None:
            return self.item(loaded, position)
        with seeded(seed):
            return self.item(loaded, position)

    def _readable(self, position: int) -> tuple[Any, int]:
        for step in range(min(len(self), 100)):
            candidate = (position + step) % len(self)
            try:
                return self.load(candidate), candidate
            except UnreadableImage as error:
                _logger.warning("cannot read %s, using the next image instead: %s", self.images.name(candidate), error)
        raise UnreadableImage(f"cannot read {self.images.name(position)} and the next {step} images")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's CPU generators inside the context, and restore them afterwards."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the GPUs' generators
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
