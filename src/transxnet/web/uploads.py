"""Uploaded image files: which are accepted, and at what size they are processed and shown."""

import math
from pathlib import Path

from PIL import Image

from transxnet.data.reading.image_decoding import UnreadableImage, known_formats, open_image, quiet_pillow
from transxnet.utils.errors import UserError

MAX_PIXELS = 50_000_000
"""Larger images are refused before decoding: these take 150 MB, and up to 1 GB while 16 bits are converted to 8."""

MAX_DENSE_PIXELS = 1_500_000
"""Larger images are downsized for detectors and segmenters, whose masks and classes take memory for each pixel."""

ACCEPTED = f"JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF or JPEG 2000, of at most {MAX_PIXELS // 10**6} million pixels"

MAX_SHOWN_SIDE = 1280
"""Longest side of an image that is sent to the browser, in pixels."""

MIN_SHOWN_SIDE = 480
"""Smaller images are enlarged for the browser until their longest side is about this."""


def read_upload(path: str | Path) -> Image.Image:
    """Read an uploaded file, in RGB and upright.

    Raises:
        UserError: the file cannot be used; the message has the reason and the accepted formats.
    """
    try:
        return open_image(path, max_pixels=MAX_PIXELS)
    except UnreadableImage as error:
        raise UserError(f"{Path(path).name} can't be used: {error}. Accepted: {ACCEPTED}.") from error


def has_several_frames(path: str | Path) -> bool:
    """Whether a readable file has further frames or pages, which are ignored."""
    try:
        with quiet_pillow(), Image.open(path, formats=known_formats()) as image:
            # The further images of phones' MPO files are previews and depth maps.
            return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    except Exception:  # on a file that is damaged behind its first frame Pillow raises nearly anything
        return False


def limit_pixels(image: Image.Image, max_pixels: int) -> Image.Image:
    """Downsize an image with more than that many pixels, and keep its aspect ratio."""
    if image.width * image.height <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / (image.width * image.height))
    size = tuple(max(1, int(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)  # type: ignore[arg-type]


def resize_for_browser(image: Image.Image, max_side: int = MAX_SHOWN_SIDE) -> Image.Image:
    """Resize an image for the browser; tiny ones are enlarged by a whole factor."""
    side = max(image.size)
    if side > max_side:
        size = tuple(max(1, round(s * max_side / side)) for s in image.size)
        return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)  # type: ignore[arg-type]
    factor = min(MIN_SHOWN_SIDE, max_side) // side
    if factor < 2:
        return image
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
