"""Base class of all image sets: the storage of the images, and which of them belong to the set."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
from PIL import Image

from transxnet.data.reading.pixels import Pixels, crop_pixels, displayed, open_pixels, pixels_size
from transxnet.utils.errors import UserError


class ImageStorage(Protocol):
    """A sequence of images that are decoded on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pixels:
        """Return image ``index``; raises UnreadableImage."""
        ...


@dataclass(frozen=True)
class FileImages:
    """Images in files, decoded on access.

    Attributes:
        paths: path of each image.
        channels: number of channels to read, or None for RGB.
    """

    paths: Sequence[str]
    channels: int | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Pixels:
        return open_pixels(self.paths[index], self.channels)

    def size(self, index: int, full: bool) -> tuple[int, int]:
        """Height and width of an image, see :func:`~transxnet.data.reading.pixels.pixels_size`."""
        return pixels_size(self.paths[index], self.channels, full)


@dataclass(frozen=True)
class ArrayImages:
    """Images in a uint8 array (N, H, W) or (N, H, W, 3)."""

    array: np.ndarray

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[index]).convert("RGB")


@dataclass(frozen=True)
class ImageCollection:
    """N images of a larger storage; subsets share the storage and everything known about its images.

    Attributes:
        storage: all images of the data.
        names: name of each image in the storage.
        class_names: K names.
        indices: indices in the storage of the images in this set, or None for all.
        groups: group number of each image in the storage, such as its patient, or None. Images of one group are never
            split into training and validation set.
        windows: left, top, right and bottom of the part of each image in the storage that belongs to the set, for tiles
            of larger images; or None.
    """

    storage: ImageStorage
    names: Sequence[str]
    class_names: list[str]
    indices: np.ndarray = field(default=None, kw_only=True)  # type: ignore[arg-type]
    groups: np.ndarray | None = field(default=None, kw_only=True)
    windows: np.ndarray | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.indices is None:
            object.__setattr__(self, "indices", np.arange(len(self.storage)))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def own_names(self) -> list[str]:
        """Names of this set's images, in order."""
        return [self.names[i] for i in self.indices]

    @property
    def own_groups(self) -> np.ndarray | None:
        """(N,) group numbers of this set's images, or None."""
        return None if self.groups is None else self.groups[self.indices]

    def name(self, index: int) -> str:
        """Name of image ``index`` of this set."""
        return self.names[self.indices[index]]

    def path(self, index: int) -> str:
        """File of image ``index`` of this set; the storage must be files."""
        assert isinstance(self.storage, FileImages)
        return self.storage.paths[self.indices[index]]

    def pixels(self, index: int) -> Pixels:
        """Image or tile ``index`` of this set, as a model reads it; raises UnreadableImage."""
        stored = self.indices[index]
        pixels = self.storage[stored]
        if self.windows is None:
            return pixels
        return crop_pixels(pixels, tuple(self.windows[stored].tolist()))

    def image(self, index: int) -> Image.Image:
        """Image ``index`` of this set in RGB, to show it; raises UnreadableImage."""
        return displayed(self.pixels(index))

    def subset(self, positions: np.ndarray) -> Self:
        """The images at these positions of this set."""
        return replace(self, indices=self.indices[positions])


def with_channels(images: Any, channels: int | None, data: str) -> Any:
    """Return the same images, read in this number of channels; None for RGB.

    Args:
        images: a set of images, or None.
        channels: number of channels.
        data: the name of the data.

    Raises:
        UserError: the images are not in files.
    """
    if channels is None or images is None:
        return images
    if not (isinstance(images, ImageCollection) and isinstance(images.storage, FileImages)):
        raise UserError(
            f"--channels needs images in files, and those of {data} are not. Accepted: class folders or a label table."
        )
    return replace(images, storage=FileImages(images.storage.paths, channels))
