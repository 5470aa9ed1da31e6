"""Transforms of images with boxes, masks or label maps, for training and evaluation."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.data.loading.opencv_resize import opencv_resize

MEAN_COLOUR = (124, 116, 104)
"""ImageNet's mean as bytes, used for padding: it becomes 0 after normalization."""

CAT_MAX_RATIO = 0.75
"""Largest fraction of a crop's labeled pixels for one class, as long as another crop can be tried."""


def detection_training(*, hflip: float = 0.5, vflip: float = 0.0, photometric: bool = False) -> v2.Transform:
    """Flip image, boxes and masks together; the model does the resizing.

    As in the published training, the default is a horizontal flip with probability 0.5, and objects that would become
    smaller than one pixel are removed.

    Args:
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        photometric: randomly change brightness, contrast, saturation and hue.

    Returns:
        (Image, target) -> the same; see :class:`~transxnet.data.datasets.detection_dataset.DetectionDataset`.
    """
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(hflip),
            v2.RandomVerticalFlip(vflip),
            *([PhotometricDistortion()] if photometric else []),
            v2.SanitizeBoundingBoxes(min_size=1, labels_getter=_per_object),
        ]
    )


def segmentation_training(
    *,
    crop: int = 512,
    ratio: tuple[float, float] = (0.5, 2.0),
    hflip: float = 0.5,
    vflip: float = 0.0,
    photometric: bool = True,
    cat_max_ratio: float = CAT_MAX_RATIO,
    fill: Sequence[float] = MEAN_COLOUR,
) -> v2.Transform:
    """Resize, crop, flip, photometric distortion and padding, in the order of the published ADE20K training.

    Args:
        crop: side of the crop; the image is resized to fit into (4 * crop, crop) times a random factor.
        ratio: range of that factor.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        photometric: randomly change brightness, contrast, saturation and hue.
        cat_max_ratio: largest fraction of the crop's labeled pixels for one class, if ten tries allow it.
        fill: value of each channel in the padding; by default ImageNet's mean color.

    Returns:
        (Image of any size, Mask) -> (Image (C, crop, crop), Mask (crop, crop)).
    """
    return v2.Compose(
        [
            RandomRatioResize(evaluation_scale(crop), ratio),
            CategoryCrop(crop, cat_max_ratio),
            v2.RandomHorizontalFlip(hflip),
            v2.RandomVerticalFlip(vflip),
            *([PhotometricDistortion()] if photometric else []),
            PadTo(crop, fill),
        ]
    )


def evaluation_scale(crop: int) -> tuple[int, int]:
    """Longer and shorter side that images are resized to fit into: (2048, 512) for crops of 512, as published."""
    return 4 * crop, crop


class PhotometricDistortion(v2.RandomPhotometricDistort):
    """Change brightness by 1/8, contrast and saturation by 1/2, hue by 1/10 of the circle, each with probability 0.5.

    Unlike in torchvision's transform, the channels are not permuted, as in the published training.
    """

    def __init__(self) -> None:
        super().__init__(hue=(-0.1, 0.1))

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the factor of each change, or None."""
        return super().make_params(flat_inputs) | {"channel_permutation": None}


class RandomRatioResize(v2.Transform):
    """Resize to fit into a scale times a random ratio, keeping the aspect ratio.

    Args:
        scale: longer and shorter side to fit into, in pixels.
        ratio: range of the factor on both sides.
    """

    def __init__(self, scale: tuple[int, int], ratio: tuple[float, float]):
        super().__init__()
        self.scale, self.ratio = scale, ratio

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the new size."""
        low, high = self.ratio
        factor = low + (high - low) * torch.rand(1).item()
        scale = self.scale[0] * factor, self.scale[1] * factor
        return {"size": fitted_size(v2.functional.get_size(flat_inputs[0]), scale)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize images by bilinear and labels by nearest-neighbor interpolation."""
        return self._call_kernel(F.resize, inpt, size=params["size"], antialias=True)


class AlignedResize(v2.Transform):
    """Resize images to fit into a scale, each side rounded up to a multiple; label maps keep their size.

    Args:
        scale: longer and shorter side to fit into, in pixels.
        multiple: both sides become multiples of this; 32 is the stride of the last stage.
        as_published: resize in two steps, first to fit and then to the multiples, each with OpenCV's 8-bit
            interpolation without antialiasing, as the published segmenters were evaluated.
    """

    def __init__(self, scale: tuple[int, int], multiple: int = 32, as_published: bool = False):
        super().__init__()
        self.scale, self.multiple, self.as_published = scale, multiple, as_published

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize images by bilinear interpolation; leave everything else unchanged."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        fitted = fitted_size(F.get_size(inpt), self.scale)
        height, width = (math.ceil(side / self.multiple) * self.multiple for side in fitted)
        if self.as_published:
            resized = opencv_resize(opencv_resize(inpt, (fitted[0], fitted[1])), (height, width))
            return tv_tensors.wrap(resized, like=inpt)
        return F.resize(inpt, [height, width], antialias=True)


class CategoryCrop(v2.Transform):
    """A random crop, drawn again up to ten times while one class covers too much of it.

    Args:
        size: side of the crop; a shorter side of the image is not cropped.
        cat_max_ratio: largest fraction of the labeled pixels for one class; 1 takes the first crop.
    """

    def __init__(self, size: int, cat_max_ratio: float = CAT_MAX_RATIO):
        super().__init__()
        self.size, self.cat_max_ratio = size, cat_max_ratio

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the position of the crop."""
        mask = next(item for item in flat_inputs if isinstance(item, tv_tensors.Mask))
        sides = F.get_size(mask)
        height, width = (min(self.size, side) for side in sides)
        for _ in range(11):
            top, left = (
                int(torch.randint(side - kept + 1, ())) for side, kept in zip(sides, (height, width), strict=True)
            )
            labels = mask[..., top : top + height, left : left + width]
            counts = torch.bincount(labels.flatten().long(), minlength=IGNORE + 1)[:IGNORE]
            if (counts > 0).sum() > 1 and counts.max() < self.cat_max_ratio * counts.sum():
                break
            if self.cat_max_ratio >= 1:
                break
        return dict(top=top, left=left, height=height, width=width)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Crop image and labels alike."""
        return self._call_kernel(F.crop, inpt, **params)


class PadTo(v2.Transform):
    """Pad at the right and the bottom: images with a color, labels with "ignore".

    Args:
        size: minimum side of the result.
        fill: value of each channel; by default ImageNet's mean color.
    """

    def __init__(self, size: int, fill: Sequence[float] = MEAN_COLOUR):
        super().__init__()
        self.size, self.fill = size, list(fill)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Pad image and labels, each with its own fill value."""
        height, width = F.get_size(inpt)
        padding = [0, 0, max(0, self.size - width), max(0, self.size - height)]
        if not any(padding):
            return inpt
        fill: Any = IGNORE if isinstance(inpt, tv_tensors.Mask) else self.fill
        return self._call_kernel(F.pad, inpt, padding=padding, fill=fill)


def fitted_size(size: list[int] | tuple[int, int], scale: tuple[float, float]) -> list[int]:
    """Largest height and width with the aspect ratio of ``size`` that fit a longer and a shorter side; at least 1."""
    factor = min(max(scale) / max(size), min(scale) / min(size))
    return [max(1, math.floor(side * factor + 0.5)) for side in size]


def _per_object(sample: tuple[Any, dict[str, Any]]) -> tuple[Any, ...]:
    """The entries with one value for each object, in addition to boxes and masks."""
    target = sample[1]
    return target["labels"], target["area"], target["iscrowd"]
