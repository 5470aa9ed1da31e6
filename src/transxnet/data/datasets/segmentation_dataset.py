"""Images with label maps, and their PyTorch dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.datasets.image_dataset import ImageDataset
from transxnet.data.reading.image_decoding import UnreadableImage, read_label_map
from transxnet.data.reading.pixels import Pixels, pixels_to_tensor

IGNORE = 255
"""Label of pixels that are ignored in training and evaluation."""

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


@dataclass(frozen=True)
class SegmentationSet(ImageCollection):
    """N images, in files, with label maps of K classes; label 0 is the first of the ``class_names``.

    Attributes:
        map_paths: file of each image's label map.
        lookup: (256,) uint8, the label of each value in the files, 0 to K - 1 or ``IGNORE``.
        colors: (C, 3) uint8, the colors of which the values are the indices, or None for maps without colors.
    """

    map_paths: Sequence[str]
    lookup: np.ndarray
    colors: np.ndarray | None = None

    def labels(self, index: int) -> np.ndarray:
        """(H, W) uint8 labels of image ``index`` of this set, 0 to K - 1 or ``IGNORE``; raises UnreadableImage."""
        values = read_label_map(self.map_paths[self.indices[index]], self.colors)
        if values.dtype != np.uint8 and (values.min(initial=0) < 0 or values.max(initial=0) > IGNORE):
            raise UnreadableImage(f"the label map contains values from {values.min()} to {values.max()}")
        if self.windows is not None:
            left, top, right, bottom = self.windows[self.indices[index]]
            values = values[top:bottom, left:right]
        return self.lookup[values]

    def with_classes(self, class_names: list[str], classes: Sequence[int]) -> Self:
        """Return the same images with a model's classes.

        Args:
            class_names: the model's class names.
            classes: for each class of this set, in order, the index of the model's class.
        """
        new = np.full(256, IGNORE, np.uint8)
        new[: len(classes)] = classes
        return replace(self, lookup=new[self.lookup], class_names=class_names)


def collate_pairs(items: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Stack images (B, C, H, W), labels (B, H, W) and positions (B,), all of one size."""
    images, masks, positions = zip(*items, strict=True)
    return torch.stack(images), torch.stack(masks), torch.tensor(positions)


def collate_sizes(items: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return lists of images and labels, which differ in size, and positions (B,)."""
    images, masks, positions = zip(*items, strict=True)
    return list(images), list(masks), torch.tensor(positions)


class SegmentationDataset(ImageDataset):
    """Images and label maps.

    Args:
        images: images and their label maps.
        transform: transform of image and labels together, or None.
        one_size: whether the transform makes all items one size, so that batches are tensors instead of lists.

    Items: Image (3, H, W) uint8, RGB, or (C, H, W) float32 of stored values; Mask (H, W) uint8, 0 to K - 1 or
    ``IGNORE``; position. In training both have the same size; in evaluation the labels keep the image's original size,
    at which predictions are compared.
    """

    def __init__(
        self,
        images: SegmentationSet,
        transform: Callable[[tv_tensors.Image, tv_tensors.Mask], Pair] | None = None,
        *,
        one_size: bool = False,
    ):
        super().__init__(images)
        self.transform = transform
        self.collate = collate_pairs if one_size else collate_sizes

    def load(self, position: int) -> tuple[Pixels, np.ndarray]:
        """Read image and labels."""
        return self.images.pixels(position), self.images.labels(position)

    def item(self, loaded: Any, position: int) -> tuple[tv_tensors.Image, tv_tensors.Mask, int]:
        """Return image, labels and position."""
        pair = tv_tensors.Image(pixels_to_tensor(loaded[0])), tv_tensors.Mask(torch.from_numpy(loaded[1]))
        image, mask = pair if self.transform is None else self.transform(*pair)
        return image, mask, position
