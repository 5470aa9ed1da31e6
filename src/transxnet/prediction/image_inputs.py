"""Images that :meth:`LoadedModel.predict` accepts: paths, PIL images, arrays and tensors; in RGB or in channels."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transxnet.data.reading.channel_decoding import to_channels
from transxnet.data.reading.image_decoding import UnreadableImage, upright_rgb
from transxnet.data.reading.pixels import Pixels, displayed, open_pixels
from transxnet.data.reading.tar_shards import ImageLocation, shard_images
from transxnet.utils.errors import UserError

ImageInput = str | Path | Image.Image | np.ndarray | Tensor
"""A path; a PIL image; an array (H, W, 3) or (H, W) uint8; or a tensor (3, H, W), uint8 or float in 0 to 1. For a model
of C channels a path, an array (H, W, C) or (C, H, W), or a tensor (C, H, W), with values as the files store them."""

ImageSource = str | Image.Image
"""A path, or an image in memory."""

ACCEPTED = (
    "Accepted: a path, a PIL image, an array (H, W, 3) or (H, W) uint8, a tensor (3, H, W) uint8 or float in 0 to 1, "
    "or several of them."
)


def split_images(images: Any) -> tuple[Iterable[ImageInput], bool]:
    """Return one or several images as a collection, and whether it was a single image.

    Raises:
        UserError: the value is neither.
    """
    if isinstance(images, (str, Path, Image.Image)):
        return [images], True
    if isinstance(images, (np.ndarray, Tensor)):
        return (list(images), False) if images.ndim == 4 else ([images], True)
    if isinstance(images, Iterable) and not isinstance(images, (bytes, dict)):
        return images, False
    raise UserError(f"images must be one or several images, got {type(images).__name__}. {ACCEPTED}")


def read_image(image: ImageInput, channels: int | None = None) -> tuple[Pixels, ImageSource]:
    """Convert an image to upright RGB, or to a tensor (C, H, W) of its values.

    Args:
        image: the image.
        channels: number of channels; None for RGB.

    Returns:
        The image, and where to read it again: its path, or an RGB image.

    Raises:
        UserError: the file cannot be read, or the value is not an image.
    """
    if isinstance(image, (str, Path)):
        return open_source(str(image), channels), str(image)
    if channels is not None:
        pixels = _channels_image(image, channels)
        return pixels, displayed(pixels)
    if isinstance(image, Image.Image):
        try:
            rgb = upright_rgb(image)
        except (UnreadableImage, OSError) as error:
            raise UserError(f"cannot use the PIL image of mode {image.mode}: {error}. Convert it to RGB.") from error
    elif isinstance(image, np.ndarray):
        rgb = _array_image(image)
    elif isinstance(image, Tensor):
        rgb = _tensor_image(image)
    else:
        raise UserError(f"an image must not be {type(image).__name__}. {ACCEPTED}")
    return rgb, rgb


def open_source(source: ImageSource, channels: int | None = None) -> Pixels:
    """Open the image of a source; a path in this number of channels, or in RGB.

    Raises:
        UserError: the file cannot be read.
    """
    if isinstance(source, Image.Image):
        return source
    if os.path.isdir(source):
        raise UserError(
            f"{source} is a folder. Pass the paths of its images, or use transxnet.predict, which searches folders and "
            "writes files."
        )
    try:
        return open_pixels(_locate(source).read(), channels)
    except UnreadableImage as error:
        raise UserError(f"cannot read {source}: {error}. Pass the path of an image file.") from error


def _locate(source: str) -> ImageLocation:
    """Find an image by the name in results: its path, or ``SHARD!MEMBER``."""
    shard, mark, _ = source.partition("!")
    if mark and not os.path.exists(source) and os.path.isfile(shard):
        return next((each for each in shard_images(shard) if each.name == source), ImageLocation(source, source))
    return ImageLocation(source, source)


def _channels_image(image: Any, channels: int) -> Tensor:
    if not isinstance(image, (np.ndarray, Tensor)):
        raise UserError(
            f"the model reads {channels} channels, got {type(image).__name__}. Accepted: a path, an array "
            f"(H, W, {channels}) or a tensor ({channels}, H, W)."
        )
    try:
        return to_channels(image.detach().cpu().numpy() if isinstance(image, Tensor) else image, channels)
    except UnreadableImage as error:
        raise UserError(
            f"cannot use an image: {error}. Pass the values as the files store them, without normalization."
        ) from error


def _array_image(array: np.ndarray) -> Image.Image:
    shape_ok = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not shape_ok or array.dtype != np.uint8 or not array.size:
        raise UserError(
            f"an array must be (H, W, 3) RGB or (H, W) gray, uint8, got {_shape(array)} {array.dtype}. Convert it, for "
            "example values in 0 to 1 with (255 * array).round().astype('uint8')."
        )
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _tensor_image(tensor: Tensor) -> Image.Image:
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel():
        raise UserError(f"a tensor must be (3, H, W) RGB, got {_shape(tensor)}. Use permute, or expand a gray image.")
    if tensor.is_floating_point():
        tensor = tensor.detach().float()
        if not bool(((tensor >= 0) & (tensor <= 1)).all()):
            raise UserError(
                f"a float tensor must have values in 0 to 1, got {float(tensor.min()):.3g} to "
                f"{float(tensor.max()):.3g}. Divide by 255, or undo its normalization: the model normalizes images."
            )
        tensor = (tensor * 255).round().to(torch.uint8)
    elif tensor.dtype != torch.uint8:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise UserError(f"a tensor must be uint8, or float in 0 to 1, got {kind}. Convert it with .to(torch.uint8).")
    return Image.fromarray(np.ascontiguousarray(tensor.permute(1, 2, 0).cpu().numpy()))


def _shape(values: Any) -> str:
    return str(tuple(values.shape))
