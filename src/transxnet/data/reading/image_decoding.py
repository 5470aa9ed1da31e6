"""Decode image files to upright RGB, with a clear error if an image cannot be read."""

import errno
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from transxnet.utils.errors import UserError

MAX_PIXELS = 178_956_970
"""Larger images are rejected as decompression bombs: half a GiB when decoded, and Pillow's own limit."""

MAX_BYTES = 8 * MAX_PIXELS
"""Larger files are rejected, since some decoders first read the whole file: four 16-bit channels need this much."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Pillow's names of the formats that are decoded, regardless of file extension. Pillow knows more, but opens some with
external programs; PostScript, for example, is a programming language and would be executed."""

EXTENSIONS = (
    ".apng", ".avif", ".bmp", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm",
    ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Extensions of the files of these formats."""


class UnreadableImage(Exception):
    """An image that cannot be decoded; the message gives the reason."""


def open_image(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode an image file to upright 8-bit RGB.

    Grayscale, palette, CMYK and 16-bit images are converted (16-bit by their full range), transparency is composited
    onto white, and the EXIF orientation is applied. Of an animation the first frame is used.

    Args:
        source: a path, or the file's bytes.
        max_pixels: larger images are rejected before decoding.

    Raises:
        UnreadableImage: no such file, not an image, truncated, an unknown sample format, or too many pixels.
    """
    with opened_image(source, max_pixels) as image:
        return upright_rgb(image)


def upright_size(source: str | Path | bytes, full: bool) -> tuple[int, int]:
    """Return height and width of an image as :func:`open_image` decodes it.

    Args:
        source: a path, or the file's bytes.
        full: decode the whole image, which detects damage; otherwise read only its header.

    Raises:
        UnreadableImage: as open_image; damaged pixel data only if ``full``.
    """
    if full:
        decoded = open_image(source)
        return decoded.height, decoded.width
    with opened_image(source) as image:
        exif = Image.Image.getexif(image)  # PngImageFile.getexif would decode the whole image
        turned = exif.get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)


def read_label_map(path: str, colors: np.ndarray | None = None) -> np.ndarray:
    """Read a label map (H, W): bytes or, from 16-bit and 32-bit files, wider integers.

    Grayscale images are read unchanged: those of 2 and 4 bits as stored, not scaled to 255 as Pillow does. Of palette
    images the indices are read, or the gray values if the palette has no colors: tools that shrink PNG files reorder
    it. Of RGB images with equal channels the first is read.

    Args:
        path: path of the file.
        colors: (K, 3) uint8 color of each class. The values of RGB and palette images are then the indices of their
            colors, and 256 + 0xRRGGBB for colors of no class.

    Raises:
        UnreadableImage: no such file, not an image, too large, damaged, or in color without ``colors``.
    """
    with opened_image(path) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8)
        if image.mode == "L":
            step = _gray_step(image)  # before decoding, which forgets the depth
            return np.asarray(image) // step
        if image.mode.startswith("I"):
            return np.asarray(image)
        if colors is not None:
            return _color_indices(np.asarray(image.convert("RGB")), colors)
        if image.mode == "P":
            return _palette_values(image)
        values = np.asarray(image)
    if values.dtype == np.uint8 and values.ndim == 3:
        channels = values[..., : 1 if values.shape[2] == 2 else 3]  # without the alpha channel
        if (channels == channels[..., :1]).all():
            return channels[..., 0]
    raise UnreadableImage(
        "the label map is a color image; accepted: one class index per pixel, or the colors of the classes in "
        "labelmap.txt or classes.csv (name,r,g,b)"
    )


def _gray_step(image: Image.Image) -> np.uint8:
    """Pillow's distance between two stored values of a grayscale image that is not decoded yet."""
    tiles = image.tile  # type: ignore[attr-defined]
    modes = {str(mode) for tile in tiles for mode in np.atleast_1d(np.asarray(tile[3], object))}
    return np.uint8(85 if "L;2" in modes else 17 if "L;4" in modes else 1)


def _palette_values(image: Image.Image) -> np.ndarray:
    indices = np.asarray(image)
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    gray = (palette == palette[:, :1]).all(axis=1)
    used = np.unique(indices)
    if used[-1] >= len(palette) or not gray[used].all():
        return indices
    return palette[:, 0][indices]


def _color_indices(pixels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Index of each pixel's color (H, W), or 256 + 0xRRGGBB if it is not one of the colors."""
    packed, known = (rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32) for rgb in (pixels, colors))
    order = np.argsort(known)
    places = order[np.searchsorted(known, packed, sorter=order).clip(max=len(known) - 1)]
    matched = known[places] == packed
    return places.astype(np.uint8) if matched.all() else np.where(matched, places, 256 + packed)


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert an image opened by Pillow as :func:`open_image` does."""
    return to_rgb(ImageOps.exif_transpose(image))


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Suppress warnings of Pillow's modules: damaged metadata that is not used, and sizes that are checked here.

    Python's warning filters are global to the process. Threads that decode do so inside another of these contexts, so
    that none of them resets the filter of another.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextmanager
def opened_image(source: str | Path | bytes, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Open a file with Pillow and check its size, without decoding it.

    Every error inside becomes an UnreadableImage: no such file, not a regular file, an unknown format, too many pixels
    or bytes, or damage.
    """
    with decoding_errors(), quiet_pillow():
        check_bytes(source)
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=known_formats()) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width}x{image.height}"
                raise UnreadableImage(f"refused as a decompression bomb: {size} exceeds {max_pixels:,} pixels")
            yield image


@contextmanager
def decoding_errors() -> Iterator[None]:
    """Convert the errors of decoders to UnreadableImage: on damaged files they raise almost any exception."""
    try:
        yield
    except (UnreadableImage, UserError):
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image, or an unsupported format") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"refused as a decompression bomb: {error}") from error
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error
    except Exception as error:
        raise UnreadableImage(str(error) or type(error).__name__) from error


@cache
def known_formats() -> tuple[str, ...]:
    """The formats in ``FORMATS`` that this build of Pillow supports."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def check_bytes(source: str | Path | bytes) -> None:
    """Raise UnreadableImage unless this is a regular file of an accepted size; a pipe or a device might never end."""
    if isinstance(source, bytes):
        size = len(source)
    else:
        status = os.stat(source)
        if not stat.S_ISREG(status.st_mode):
            folder = stat.S_ISDIR(status.st_mode)
            raise UnreadableImage(
                os.strerror(errno.EISDIR) if folder else "it is a pipe or a device, not a regular file"
            )
        size = status.st_size
    if not size:
        raise UnreadableImage("the file is empty")
    if size > MAX_BYTES:
        raise UnreadableImage(f"the file has {size:,} bytes, more than {MAX_BYTES:,}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any Pillow mode to 8-bit RGB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_wide(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_wide(image: Image.Image) -> Image.Image:
    """Convert 16-bit, 32-bit and floating-point grayscale; Pillow's own conversion clips at 255."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise UnreadableImage("floating-point values outside 0 to 1, with unknown scale")
        factor = 255.0
    elif values.min() < 0 or values.max() > 65535:
        raise UnreadableImage("integer values outside 0 to 65535, with unknown scale")
    else:
        factor = 1 / 257
    gray = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), 64):  # a large image in float64 would take gigabytes
        gray[start : start + 64] = np.round(values[start : start + 64].astype(np.float64) * factor)
    return Image.fromarray(gray).convert("RGB")
