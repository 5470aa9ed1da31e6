"""Images as a model reads them: in RGB, or in any number of channels with their stored values."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from transxnet.data.reading.channel_decoding import open_channels
from transxnet.data.reading.image_decoding import EXTENSIONS, open_image, upright_size

Pixels = Image.Image | Tensor
"""An RGB image; or a tensor (C, H, W) float32 of the values that the file stores."""

CHANNEL_EXTENSIONS = (*EXTENSIONS, ".dcm", ".dicom", ".npy")
"""Extensions of the files that are read in any number of channels."""

_PERCENTILES = (2, 98)  # of a channel, shown as black and white
_SAMPLES = 1 << 20  # most values that the percentiles are computed from


def open_pixels(source: str | Path | bytes, channels: int | None) -> Pixels:
    """Decode an image file, to RGB if ``channels`` is None; raises UnreadableImage."""
    return open_image(source) if channels is None else open_channels(source, channels)


def pixels_size(source: str | Path | bytes, channels: int | None, full: bool) -> tuple[int, int]:
    """Return height and width of an image file as :func:`open_pixels` decodes it; raises UnreadableImage.

    Args:
        source: a path, or the file's bytes.
        channels: number of channels, or None for RGB.
        full: decode an RGB image, which detects damage. Other images are always decoded.
    """
    if channels is None:
        return upright_size(source, full)
    _, height, width = open_channels(source, channels).shape
    return height, width


def pixels_to_tensor(pixels: Pixels) -> Tensor:
    """Convert an image to (C, H, W): uint8 of an RGB image, float32 of stored values."""
    return pixels if isinstance(pixels, Tensor) else pil_to_tensor(pixels)


def crop_pixels(pixels: Pixels, window: tuple[int, int, int, int]) -> Pixels:
    """Crop an image to left, top, right and bottom."""
    left, top, right, bottom = window
    return pixels[:, top:bottom, left:right] if isinstance(pixels, Tensor) else pixels.crop(window)


def extensions_for(channels: int | None) -> Sequence[str]:
    """Return the extensions of the files that :func:`open_pixels` reads."""
    return EXTENSIONS if channels is None else CHANNEL_EXTENSIONS


def displayed(pixels: Pixels) -> Image.Image:
    """Render an image in 8-bit RGB; RGB images, also as a tensor (3, H, W) uint8, are shown as they are.

    Of three channels or more, the first three are red, green and blue; of fewer, the first is gray. Each is scaled so
    that its 2nd and 98th percentile are black and white.
    """
    if isinstance(pixels, Image.Image):
        return pixels
    if pixels.dtype == torch.uint8:
        return to_pil_image(pixels)
    shown = pixels[[0, 1, 2] if len(pixels) >= 3 else [0, 0, 0]].detach().cpu()
    return Image.fromarray(unit_to_uint8(torch.stack([_stretched(channel) for channel in shown])))


def grayscale(pixels: Pixels) -> Image.Image:
    """Render an image in 8-bit gray: RGB by its luma, others by the mean of all channels, each scaled as in
    :func:`displayed`."""
    if isinstance(pixels, Image.Image):
        return pixels.convert("L")
    mean = torch.stack([_stretched(channel).clamp(0, 1) for channel in pixels]).mean(0)
    return Image.fromarray((mean * 255).round().byte().numpy())


def unit_to_uint8(image: Tensor) -> np.ndarray:
    """Convert an image in 0 to 1 to 8 bits: (3, H, W) float -> (H, W, 3) uint8."""
    return (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def _stretched(channel: Tensor) -> Tensor:
    """Scale a channel so that its percentiles are 0 and 1; a constant one is 0."""
    values = channel.flatten()
    low, high = np.percentile(values[:: max(1, len(values) // _SAMPLES)].numpy(), _PERCENTILES).tolist()
    return (channel - low) / (high - low) if high > low else torch.zeros_like(channel)
