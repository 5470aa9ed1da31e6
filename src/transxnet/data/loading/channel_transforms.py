"""Transforms of images with any number of channels, as timm's of RGB images, without changes of color."""

from collections.abc import Sequence

from timm.data.transforms import str_to_interp_mode
from torch import Tensor, nn
from torchvision.transforms import v2

MAX_ASPECT = 16
"""Of longer and thinner images only the middle is resized: the center crop drops the rest, and an image of 30000x1
pixels would become 6.7 GB."""


class CropMiddle(nn.Module):
    """Crop an image (C, H, W) whose sides differ by more than ``MAX_ASPECT`` to its middle."""

    def forward(self, image: Tensor) -> Tensor:
        """Return the middle of the image."""
        height, width = image.shape[1:]
        left, top = middle_margins(width, height)
        return image[:, top : height - top, left : width - left]


def middle_margins(width: int, height: int) -> tuple[int, int]:
    """Pixels at the left and at the top outside the middle of an image; 0 unless its sides differ too much."""
    most = MAX_ASPECT * min(width, height)
    return max(0, width - most) // 2, max(0, height - most) // 2


def channel_transform(
    size: int, resized: int, interpolation: str, mean: Sequence[float], std: Sequence[float]
) -> v2.Transform:
    """Return the transform for inference, from (C, H, W) to (C, size, size) float32.

    Args:
        size: side of the center crop.
        resized: shorter side before the crop.
        interpolation: interpolation of the resize.
        mean: mean of each channel.
        std: standard deviation of each channel.
    """
    return v2.Compose(
        [
            CropMiddle(),
            v2.Resize(resized, str_to_interp_mode(interpolation), antialias=True),
            v2.CenterCrop(size),
            v2.Normalize(mean, std),
        ]
    )


def channel_augmentation(
    size: int,
    interpolation: str,
    mean: Sequence[float],
    std: Sequence[float],
    *,
    min_scale: float,
    hflip: float,
    vflip: float,
    random_erasing: float,
) -> v2.Transform:
    """Return the random transform for training, from (C, H, W) to (C, size, size) float32.

    Args:
        size: side of the random crop.
        interpolation: interpolation of the resize.
        mean: mean of each channel.
        std: standard deviation of each channel.
        min_scale: smallest fraction of the image's area that a random crop keeps.
        hflip: probability of a horizontal flip.
        vflip: probability of a vertical flip.
        random_erasing: probability of filling a random rectangle with noise.
    """
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                size, scale=(min_scale, 1.0), interpolation=str_to_interp_mode(interpolation), antialias=True
            ),
            v2.RandomHorizontalFlip(hflip),
            v2.RandomVerticalFlip(vflip),
            v2.Normalize(mean, std),
            v2.RandomErasing(random_erasing, value="random"),
        ]
    )
