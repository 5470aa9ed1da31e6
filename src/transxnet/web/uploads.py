"""Uploaded image files: accepted formats, and the sizes at which they are processed and shown."""

import math
from pathlib import Path

from PIL import Image

from transxnet.data.reading.image_decoding import UnreadableImage, known_formats, open_image, quiet_pillow
from transxnet.utils.errors import UserError

MAX_PIXELS = 50_000_000
"""Larger images are rejected before decoding: this size takes 150 MB, and up to 1 GB when converting 16 to 8 bits."""

MAX_DENSE_PIXELS = 1_500_000
"""Larger images are downsized for detectors and segmenters, whose masks and class maps take memory per pixel."""

ACCEPTED = f"JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF or JPEG 2000 with at most {MAX_PIXELS // 10**6} million pixels"

MAX_SHOWN_SIDE = 1280
"""Longest side of an image that is sent to the browser, in pixels."""

MIN_SHOWN_SIDE = 480
"""Smaller images are enlarged for the browser to about this longest side, in pixels."""


def read_upload(path: str | Path) -> Image.Image:
    """Read an uploaded file in RGB, rotated upright.

    Raises:
        UserError: the file cannot be used; the message has the reason and the accepted formats.
    """
    try:
        return open_image(path, max_pixels=MAX_PIXELS)
    except UnreadableImage as error:
        raise UserError(f"cannot use {Path(path).name}: {error}. Accepted: {ACCEPTED}.") from error


def has_several_frames(path: str | Path) -> bool:
    """Return whether a readable file has more frames or pages, which are ignored."""
    try:
        with quiet_pillow(), Image.open(path, formats=known_formats()) as image:
            # The other images in the MPO files of phones are previews and depth maps.
            return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    except Exception:  # Pillow raises many exception types on files damaged after the first frame
        return False


def limit_pixels(image: Image.Image, max_pixels: int) -> Image.Image:
    """Downsize an image to at most ``max_pixels``, keeping its aspect ratio."""
    if image.width * image.height <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / (image.width * image.height))
    size = tuple(max(1, int(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)  # type: ignore[arg-type]


def resize_for_browser(image: Image.Image, max_side: int = MAX_SHOWN_SIDE) -> Image.Image:
    """Resize an image for the browser; tiny images are enlarged by an integer factor."""
    side = max(image.size)
    if side > max_side:
        size = tuple(max(1, round(s * max_side / side)) for s in image.size)
        return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)  # type: ignore[arg-type]
    factor = min(MIN_SHOWN_SIDE, max_side) // side
    if factor < 2:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
