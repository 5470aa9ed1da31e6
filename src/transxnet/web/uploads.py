"""Pictures that strangers send to the page: what is taken, and at what size it is looked at and shown."""

import math
from pathlib import Path

from PIL import Image

from transxnet.data.reading.image_decoding import UnreadableImage, known_formats, open_image, quiet_pillow
from transxnet.utils.errors import UserError

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded: these take 150 MB, and up to 1 GB while 16 bits become 8."""

DENSE_PIXELS = 1_500_000
"""Detectors and segmenters get larger pictures reduced: what 100 masks or 150 classes take grows with the pixels."""

ACCEPTED = f"JPEG, PNG, WebP, TIFF, GIF, BMP, AVIF or JPEG 2000, of at most {MAX_PIXELS // 10**6} million pixels"

SHOWN = 1280
"""Longest side of what is sent to the browser, in pixels."""

ENLARGED = 480
"""Smaller pictures are enlarged for the browser until their longest side is at least about this."""


def read_picture(path: str | Path) -> Image.Image:
    """A file that was sent, in RGB and upright.

    Raises:
        UserError: it can't be used; the message says why, and what can.
    """
    try:
        return open_image(path, max_pixels=MAX_PIXELS)
    except UnreadableImage as error:
        raise UserError(f"{Path(path).name} can't be used: {error}. Accepted: {ACCEPTED}.") from error


def more_than_one(path: str | Path) -> bool:
    """Whether a file that can be read holds further frames or pages, which are not looked at."""
    try:
        with quiet_pillow(), Image.open(path, formats=known_formats()) as image:
            # The further pictures of phones' MPO files are previews and maps of depth.
            return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    except Exception:  # on a file that is damaged behind its first frame Pillow raises nearly anything
        return False


def within_pixels(picture: Image.Image, most: int) -> Image.Image:
    """The picture, or where it has more than that many pixels a smaller one of its proportions."""
    if picture.width * picture.height <= most:
        return picture
    scale = math.sqrt(most / (picture.width * picture.height))
    size = tuple(max(1, int(side * scale)) for side in picture.size)
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)  # type: ignore[arg-type]


def for_the_browser(picture: Image.Image, longest: int = SHOWN) -> Image.Image:
    """The picture at a size to look at; tiny ones enlarged by whole numbers."""
    side = max(picture.size)
    if side > longest:
        size = tuple(max(1, round(s * longest / side)) for s in picture.size)
        return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3)  # type: ignore[arg-type]
    factor = min(ENLARGED, longest) // side
    if factor < 2:
        return picture
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)
