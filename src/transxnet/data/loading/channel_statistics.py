"""Mean and standard deviation of each channel of the training images."""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.formats.unreadable_images import check_each
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.utils.errors import UserError
from transxnet.utils.quantities import format_count

MEASURED = 5000
"""Most images that are read; of larger sets they are taken at even distances."""


class ChannelStatistics(NamedTuple):
    """Statistics of C channels.

    Attributes:
        mean: C means.
        std: C standard deviations; 1 of a constant channel.
        images: number of images that were read.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: int

    def describe(self) -> str:
        """Describe the normalization by these statistics."""
        return (
            f"{format_count(len(self.mean), 'channel')}, normalized by their mean and standard deviation over "
            f"{format_count(self.images, 'training image')}"
        )


def measure_channels(images: ImageCollection) -> ChannelStatistics:
    """Measure mean and standard deviation of each channel, of which every image has the same share.

    Args:
        images: images that are read as tensors (C, H, W).

    Raises:
        UserError: no image can be read.
    """
    chosen = np.linspace(0, len(images) - 1, min(len(images), MEASURED)).round().astype(int)
    moments = list(filter(None, check_each(len(chosen), partial(_moments, images, chosen))))
    if not moments:
        raise UserError(f"none of the {len(images)} training images can be read. Check the files.")
    means, variances = (np.stack(each) for each in zip(*moments, strict=True))
    std = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
    return ChannelStatistics(
        tuple(means.mean(axis=0).tolist()), tuple(np.where(std > 0, std, 1.0).tolist()), len(moments)
    )


def _moments(images: ImageCollection, chosen: np.ndarray, position: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and variance of each channel of an image; None if it cannot be read."""
    try:
        pixels = images.pixels(chosen[position])
    except UnreadableImage:
        return None
    assert isinstance(pixels, torch.Tensor)
    variance, mean = torch.var_mean(pixels.double(), dim=(1, 2), correction=0)
    return mean.numpy(), variance.numpy()
