"""Decode TIFF files of any number of channels and any data type with the package tifffile."""

import logging
import zlib
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, BinaryIO

import numpy as np

from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.utils.optional_packages import require_package

COMPRESSIONS = {1: "none", 5: "LZW", 8: "Deflate", 32773: "PackBits", 32946: "Deflate"}
"""Accepted compressions. The decoders of others allocate what the data requests, or are written for 8-bit images."""

MAX_PAGES = 16_384
"""Files with more pages are rejected: their list may be circular."""

_INFLATED = 1 << 28  # bytes that a segment may unpack to without a check
_MAX_RATIO = 1032  # of Deflate


def decode_tiff(file: BinaryIO, channels: int, check_shape: Callable[[Sequence[int]], None]) -> np.ndarray:
    """Decode the first image of a TIFF file.

    Its pages are read, not the descriptions that programs add, since these may name other files. The channels are those
    of the first page or, if that has a single one, all pages of the same size.

    Args:
        file: the open file.
        channels: expected number of channels.
        check_shape: raises UnreadableImage for an array that is too large.

    Returns:
        (H, W), (H, W, C) or (C, H, W).

    Raises:
        UnreadableImage: too many pages, or an unsupported compression.
        UserError: tifffile is not installed.
    """
    require_package("tifffile", "transxnet[channels]", "Reading TIFF files with --channels")
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # damage is reported by the exceptions
    with tifffile.TiffFile(file) as tiff:
        first = tiff.pages.first
        if first.samplesperpixel > 1 or channels == 1:
            check_shape(first.shape)
            return _decode_page(first)
        pages = [page for page in _pages(tiff) if (page.shape, page.dtype) == (first.shape, first.dtype)]
        check_shape((len(pages), *first.shape))
        return np.stack([_decode_page(page) for page in pages])


def _pages(tiff: Any) -> list[Any]:
    """Read the pages one by one: their number is unknown, and a circular list has no end."""
    pages: list[Any] = []
    while len(pages) <= MAX_PAGES:
        try:
            pages.append(tiff.pages[len(pages)])
        except IndexError:
            return pages
    raise UnreadableImage(f"the TIFF file has more than {MAX_PAGES:,} pages")


def _decode_page(page: Any) -> np.ndarray:
    if page.compression not in COMPRESSIONS:
        name = getattr(page.compression, "name", page.compression)
        raise UnreadableImage(
            f"TIFF compression {name}; accepted with --channels: {', '.join(dict.fromkeys(COMPRESSIONS.values()))}"
        )
    if sum(page.databytecounts) > page.parent.filehandle.size:
        raise UnreadableImage("the TIFF file is truncated, or its segments overlap")
    if COMPRESSIONS[page.compression] == "Deflate":
        _check_inflated(page)
    return page.asarray(maxworkers=1)


def _check_inflated(page: Any) -> None:
    """Raise UnreadableImage if a segment unpacks to more than its size, which tifffile would unpack completely."""
    limit = max(_INFLATED, prod(page.chunks) * page.dtype.itemsize)
    file = page.parent.filehandle
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count * _MAX_RATIO > limit:
            file.seek(offset)
            if len(zlib.decompressobj().decompress(file.read(count), limit + 1)) > limit:
                raise UnreadableImage("refused as a decompression bomb: a segment unpacks to more than its size")
