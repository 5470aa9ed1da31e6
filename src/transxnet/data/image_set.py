"""Labelled images, wherever they come from, and the PyTorch data set over them."""

import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from transxnet.data.images import UnreadableImage, check_header, open_image, quiet_pillow

_logger = logging.getLogger(__name__)


class Pictures(Protocol):
    """A sequence of pictures that are decoded when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """Picture ``index`` in RGB; raises UnreadableImage."""
        ...


@dataclass(frozen=True)
class FilePictures:
    """Pictures in files."""

    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return open_image(self.paths[index])


@dataclass(frozen=True)
class ArrayPictures:
    """Pictures in an array of bytes (N, H, W) or (N, H, W, 3)."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[index]).convert("RGB")


@dataclass(frozen=True)
class ImageSet:
    """N labelled images of C classes.

    Attributes:
        pictures: where image ``i`` of the whole source is decoded from.
        names: what a person would look an image up by; one for each picture.
        labels: (N,) class indices; one for each picture.
        class_names: C names by class index.
        weights: (N,) how far each label can be trusted, 0 to 1, or None.
        indices: which of the pictures belong to this set, or None for all.
    """

    pictures: Pictures
    names: Sequence[str]
    labels: np.ndarray
    class_names: list[str]
    weights: np.ndarray | None = None
    indices: np.ndarray = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.indices is None:
            object.__setattr__(self, "indices", np.arange(len(self.pictures)))

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, index: int) -> Image.Image:
        """Image ``index`` of this set in RGB; raises UnreadableImage."""
        return self.pictures[self.indices[index]]

    def name(self, index: int) -> str:
        """Name of image ``index`` of this set."""
        return self.names[self.indices[index]]

    @property
    def own_names(self) -> list[str]:
        """Names of this set's images, in order."""
        return [self.names[i] for i in self.indices]

    @property
    def own_labels(self) -> np.ndarray:
        """(N,) class indices of this set's images."""
        return self.labels[self.indices]

    @property
    def own_weights(self) -> np.ndarray | None:
        """(N,) weights of this set's images, or None."""
        return None if self.weights is None else self.weights[self.indices]

    def subset(self, positions: np.ndarray) -> "ImageSet":
        """The images at these positions of this set."""
        return replace(self, indices=self.indices[positions])

    def find_unreadable(
        self, full_up_to: int = 50_000, progress: Callable[[int], None] | None = None
    ) -> dict[int, str]:
        """Positions of the images in this set whose files can't be decoded, and why.

        Sets of more than ``full_up_to`` files get their headers checked only, since decoding all of them would take
        longer than a user waits; what slips through is replaced when it is met (see :class:`ClassificationDataset`).
        """
        if not isinstance(self.pictures, FilePictures):
            return {}
        paths, check = self.pictures.paths, open_image if len(self) <= full_up_to else check_header

        def reason(index: int) -> str | None:
            try:
                check(paths[index])
            except UnreadableImage as error:
                return str(error)
            return None

        found = {}
        with quiet_pillow(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(self), 1024):  # the pool queues all that it is given: ImageNet would take 2 GB
                for position, why in enumerate(pool.map(reason, self.indices[start : start + 1024]), start):
                    if why is not None:
                        found[position] = why
                    if progress is not None:
                        progress(position + 1)
        return found


class ClassificationDataset(Dataset):
    """Transformed images and labels for a PyTorch loader.

    Indexed by a position, or by (position, seed) as :class:`EpochSampler` gives them: then the transform's randomness
    follows from the seed alone, whatever worker runs it. A file that turned unreadable is replaced by the next one
    that can be read, and named in a log message.

    Items: image (3, H, W) float32, label, position.
    """

    def __init__(self, images: ImageSet, transform: Callable[[Image.Image], torch.Tensor]):
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[torch.Tensor, int, int]:
        position, seed = key if isinstance(key, tuple) else (key, None)
        picture, position = self._readable(position)
        label = int(self.images.labels[self.images.indices[position]])
        if seed is None:
            return self.transform(picture), label, position
        with seeded(seed):
            return self.transform(picture), label, position

    def _readable(self, position: int) -> tuple[Image.Image, int]:
        for step in range(min(len(self), 100)):
            candidate = (position + step) % len(self)
            try:
                return self.images.picture(candidate), candidate
            except UnreadableImage as error:
                _logger.warning("%s can't be read and is replaced by the next: %s", self.images.name(candidate), error)
        raise UnreadableImage(f"{self.images.name(position)} and the {step} images after it can't be read")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's CPU generators inside, and put them back after."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs' generators too
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])


def relative_names(paths: Sequence[Path], root: Path) -> list[str]:
    """Paths as a person names them: below the root, with forward slashes."""
    return [path.relative_to(root).as_posix() for path in paths]
