"""Decode image files to any number of channels with their stored values, without conversion to 8 bits."""

import io
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from transxnet.data.reading.dicom_decoding import decode_dicom
from transxnet.data.reading.image_decoding import (
    MAX_PIXELS,
    UnreadableImage,
    check_bytes,
    decoding_errors,
    opened_image,
)
from transxnet.data.reading.tiff_decoding import decode_tiff

MAX_VALUES = 2 * MAX_PIXELS
"""Images with more values in all channels are rejected: 1.3 GiB in float32."""

PILLOW_FORMATS = ("BMP", "GIF", "JPEG", "MPO", "PNG", "WEBP")
"""Formats that Pillow decodes without losing bits, except PNG files of 16-bit color, which are rejected."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_NPY = b"\x93NUMPY"
_NPY_HEADER = threading.Lock()  # numpy parses it as Python, which threads cannot do before 3.11.8 (cpython #106905)
_DICOM = b"DICM"  # after a preamble of 128 bytes


def open_channels(source: str | Path | bytes, channels: int) -> Tensor:
    """Decode an image file to its stored values.

    Reads TIFF, NPY and DICOM files, and 8-bit images and 16-bit grayscale in other formats, recognized by their
    content. Channels may be the first or the last axis, the pages of a TIFF or the frames of a DICOM file; if both axes
    have this length, the last one is used. Values are neither scaled nor clipped, except those of DICOM files, which
    are in the unit and in the window of their header.

    Args:
        source: a path, or the file's bytes.
        channels: number of channels C that the image must have.

    Returns:
        (C, H, W) float32, which represents integers up to 2^24 exactly.

    Raises:
        UnreadableImage: no such file, an unsupported or damaged file, another number of channels, too many values, or
            NaN or infinite values.
        UserError: the package that reads this format is not installed.
    """
    with decoding_errors():
        check_bytes(source)
        with _opened(source) as file:
            head = file.read(132)
            file.seek(0)
            if head.startswith(_TIFF):
                values = decode_tiff(file, channels, check_shape)
            elif head.startswith(_NPY):
                values = _decode_npy(file)
            elif head[128:] == _DICOM:
                values = decode_dicom(file, check_shape)
            else:
                values = _decode_pillow(source)
        return to_channels(values, channels)


def to_channels(values: np.ndarray, channels: int) -> Tensor:
    """Convert an array (H, W), (H, W, C) or (C, H, W) of numbers to a tensor (C, H, W) float32.

    Raises:
        UnreadableImage: it has another number of channels, is empty, or has NaN, infinite or complex values.
    """
    shape = values.shape
    if values.dtype.kind not in "buif":
        raise UnreadableImage(f"its values are of the type {values.dtype}; accepted: integers and floating point")
    if values.ndim == 2 and channels == 1:
        values = values[None]
    elif values.ndim == 3 and shape[2] == channels:
        values = values.transpose(2, 0, 1)
    elif values.ndim != 3 or shape[0] != channels:
        raise UnreadableImage(f"it has the shape {shape}, not {channels} {'channels' if channels > 1 else 'channel'}")
    if not values.size:
        raise UnreadableImage(f"it has the shape {shape}, without pixels")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UnreadableImage("it has NaN or infinite values; replace them by a number")
    with np.errstate(over="ignore"):
        converted = np.array(values, np.float32, order="C")
    if not np.isfinite(converted).all():
        raise UnreadableImage("it has values beyond the range of float32")
    return torch.from_numpy(converted)


def check_shape(shape: Sequence[int]) -> None:
    """Raise UnreadableImage if an array of this shape is too large."""
    if not all(side >= 0 for side in shape) or prod(shape) > MAX_VALUES:
        raise UnreadableImage(
            f"refused as a decompression bomb: the shape {tuple(shape)} exceeds {MAX_VALUES:,} values"
        )


def _opened(source: str | Path | bytes) -> AbstractContextManager[BinaryIO]:
    return io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")


def _decode_npy(file: BinaryIO) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    readers: dict[Any, Any] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise UnreadableImage(f"NPY version {'.'.join(map(str, version))}; accepted: 1.0 and 2.0")
    with _NPY_HEADER:
        shape, fortran, kind = readers[version](file)
    if kind.hasobject:
        raise UnreadableImage("it contains Python objects, which would execute code")
    check_shape(shape)
    return np.ndarray(shape, kind, file.read(prod(shape) * kind.itemsize), order="F" if fortran else "C")


def _decode_pillow(source: str | Path | bytes) -> np.ndarray:
    with opened_image(source) as image:
        if image.format not in PILLOW_FORMATS or (_stored_bits(image) == 16 and not image.mode.startswith("I")):
            raise UnreadableImage(
                f"{image.format} in color may have more than 8 bits, which are not read; convert it to TIFF or NPY"
            )
        upright = ImageOps.exif_transpose(image)
        return np.asarray(upright.convert("RGB") if upright.mode == "P" else upright)


def _stored_bits(image: Image.Image) -> int:
    """Bits per value of a PNG file that is not decoded yet; 8 for other formats."""
    tiles = image.tile  # type: ignore[attr-defined]
    return 16 if any(";16" in str(tile[3]) for tile in tiles) else 8
