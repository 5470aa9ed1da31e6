"""Images as a model reads them: in RGB, or in any number of channels with their stored values."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transxnet.data.reading.channel_decoding import open_channels
from transxnet.data.reading.image_decoding import EXTENSIONS, open_image

Pixels = Image.Image | Tensor
"""An RGB image; or a tensor (C, H, W) float32 of the values that the file stores."""

CHANNEL_EXTENSIONS = (*EXTENSIONS, ".dcm", ".dicom", ".npy")
"""Extensions of the files that are read in any number of channels."""

_PERCENTILES = (2, 98)  # of a channel, shown as black and white
_SAMPLES = 1 << 20  # most values that the percentiles are computed from


def open_pixels(source: str | Path | bytes, channels: int | None) -> Pixels:
    """Decode an image file, to RGB if ``channels`` is None; raises UnreadableImage."""
    return open_image(source) if channels is None else open_channels(source, channels)


def extensions_for(channels: int | None) -> Sequence[str]:
    """Return the extensions of the files that :func:`open_pixels` reads."""
    return EXTENSIONS if channels is None else CHANNEL_EXTENSIONS


def displayed(pixels: Pixels) -> Image.Image:
    """Render an image in 8-bit RGB.

    Of three channels or more, the first three are red, green and blue; of fewer, the first is gray. Each is scaled so
    that its 2nd and 98th percentile are black and white.
    """
    if isinstance(pixels, Image.Image):
        return pixels
    shown = pixels[[0, 1, 2] if len(pixels) >= 3 else [0, 0, 0]].detach().cpu()
    return Image.fromarray(unit_to_uint8(torch.stack([_stretched(channel) for channel in shown])))


def unit_to_uint8(image: Tensor) -> np.ndarray:
    """Convert an image in 0 to 1 to 8 bits: (3, H, W) float -> (H, W, 3) uint8."""
    return (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def _stretched(channel: Tensor) -> Tensor:
    """Scale a channel so that its percentiles are 0 and 1; a constant one is 0."""
    values = channel.flatten()
    low, high = np.percentile(values[:: max(1, len(values) // _SAMPLES)].numpy(), _PERCENTILES).tolist()
    return (channel - low) / (high - low) if high > low else torch.zeros_like(channel)
