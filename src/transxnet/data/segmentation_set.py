"""Photographs with label maps, and the PyTorch data set over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from transxnet.data.images import UnreadableImage, open_image, opened_image
from transxnet.data.photographs import PhotographDataset

IGNORE = 255
"""The label of pixels that are neither learnt nor counted."""

Pair = tuple[tv_tensors.Image, tv_tensors.Mask]


@dataclass(frozen=True)
class SegmentationSet:
    """N photographs with label maps of K classes.

    Attributes:
        paths: files of the whole source's photographs.
        map_paths: files of their label maps.
        names: what a person would look a photograph up by.
        class_names: K names; label 0 is the first.
        lookup: (256,) uint8, the label for each value in the files, 0 to K - 1 or ``IGNORE``.
        indices: which of the photographs belong to this set, or None for all.
    """

    paths: Sequence[str]
    map_paths: Sequence[str]
    names: Sequence[str]
    class_names: list[str]
    lookup: np.ndarray
    indices: np.ndarray = field(default=None)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if self.indices is None:
            object.__setattr__(self, "indices", np.arange(len(self.paths)))

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def own_names(self) -> list[str]:
        """Names of this set's photographs, in order."""
        return [self.names[i] for i in self.indices]

    def name(self, index: int) -> str:
        """Name of photograph ``index`` of this set."""
        return self.names[self.indices[index]]

    def path(self, index: int) -> str:
        """File of photograph ``index`` of this set."""
        return self.paths[self.indices[index]]

    def picture(self, index: int) -> Image.Image:
        """Photograph ``index`` of this set in RGB; raises UnreadableImage."""
        return open_image(self.path(index))

    def labels(self, index: int) -> np.ndarray:
        """(H, W) uint8 labels of photograph ``index`` of this set, 0 to K - 1 or ``IGNORE``; raises UnreadableImage."""
        values = read_label_map(self.map_paths[self.indices[index]])
        if values.dtype != np.uint8 and (values.min(initial=0) < 0 or values.max(initial=0) > IGNORE):
            raise UnreadableImage(f"the label map holds values from {values.min()} to {values.max()}")
        return self.lookup[values]

    def subset(self, positions: np.ndarray) -> "SegmentationSet":
        """The photographs at these positions of this set."""
        return replace(self, indices=self.indices[positions])

    def relabelled(self, class_names: list[str], labels: Sequence[int]) -> "SegmentationSet":
        """The same photographs with a model's classes.

        Args:
            class_names: the model's.
            labels: for each class of this set, in order, the model's label.
        """
        new = np.full(256, IGNORE, np.uint8)
        new[: len(labels)] = labels
        return replace(self, lookup=new[self.lookup], class_names=class_names)


class SegmentationDataset(PhotographDataset):
    """Photographs and labels for a PyTorch loader.

    Args:
        images: the set.
        transform: of photograph and labels together, or None.

    Items: Image (3, H, W) uint8, RGB; Mask (H, W) uint8, 0 to K - 1 or ``IGNORE``; position. In training both have the
    same size; in evaluation the labels keep the photograph's own, at which predictions are compared.
    """

    def __init__(
        self, images: SegmentationSet, transform: Callable[[tv_tensors.Image, tv_tensors.Mask], Pair] | None = None
    ):
        super().__init__(images)
        self.images, self.transform = images, transform

    def load(self, position: int) -> tuple[Image.Image, np.ndarray]:
        """Photograph and labels."""
        return self.images.picture(position), self.images.labels(position)

    def item(self, loaded: Any, position: int) -> tuple[tv_tensors.Image, tv_tensors.Mask, int]:
        """Photograph, labels and position."""
        pair = tv_tensors.Image(pil_to_tensor(loaded[0])), tv_tensors.Mask(torch.from_numpy(loaded[1]))
        image, mask = pair if self.transform is None else self.transform(*pair)
        return image, mask, position


def read_label_map(path: str) -> np.ndarray:
    """The values of a label map (H, W): bytes or, from files of 16 or 32 bits, wider integers.

    Grey and palette images are taken as they are, and colour images whose channels are the same.

    Raises:
        UnreadableImage: no such file, no image, too large, damaged, or in colours.
    """
    with opened_image(path) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode in ("L", "P") or image.mode.startswith("I"):
            return np.asarray(image)
        values = np.asarray(image)
    if values.dtype == np.uint8 and values.ndim == 3:
        colours = values[..., : 1 if values.shape[2] == 2 else 3]  # without what is transparency
        if (colours == colours[..., :1]).all():
            return colours[..., 0]
    raise UnreadableImage("the label map is in colours; it must hold one class number a pixel")


def collate_pairs(items: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Photographs (B, 3, H, W), labels (B, H, W) and positions (B,), all of one size."""
    images, masks, positions = zip(*items, strict=True)
    return torch.stack(images), torch.stack(masks), torch.tensor(positions)


def collate_sizes(items: Sequence[tuple[Tensor, Tensor, int]]) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Lists of photographs and of labels, each of its own size, and positions (B,)."""
    images, masks, positions = zip(*items, strict=True)
    return list(images), list(masks), torch.tensor(positions)
