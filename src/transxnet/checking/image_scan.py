"""Decode every image once, and keep what the checks need of it."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from transxnet.data.datasets.image_collection import FileImages, ImageCollection
from transxnet.data.formats.unreadable_images import check_each
from transxnet.data.reading.image_decoding import UnreadableImage, opened_image, upright_rgb
from transxnet.data.reading.pixels import Pixels, grayscale
from transxnet.utils.quantities import format_count

SIDE = 64
"""Side of the thumbnails that are compared, in pixels."""


class _Facts(NamedTuple):
    width: int
    height: int
    mode: str
    digest: int
    thumbnail: np.ndarray


@dataclass(frozen=True)
class Scan:
    """Facts about the N images of all sets, in order.

    Attributes:
        sizes: (N, 2) width and height; 0 if the image cannot be read.
        modes: Pillow's mode of each file, or the number of channels; "" if it cannot be read.
        digests: (N,) uint64 hash of the decoded pixels.
        thumbnails: (N, SIDE, SIDE) uint8, grayscale, in a temporary file: 4 GB for a million images.
        faults: why images cannot be read, by number.
    """

    sizes: np.ndarray
    modes: list[str]
    digests: np.ndarray
    thumbnails: np.ndarray
    faults: dict[int, str]

    @property
    def readable(self) -> np.ndarray:
        """(N,) whether each image can be read."""
        return self.sizes[:, 0] > 0


def scan_images(sets: Sequence[ImageCollection], progress: Callable[[int], Any]) -> Scan:
    """Decode the images of these sets, on several threads.

    Args:
        sets: sets of images.
        progress: called with the number of images decoded.
    """
    count = sum(map(len, sets))
    with tempfile.TemporaryFile() as file:  # its space is freed with the last reference to the mapping
        os.truncate(file.fileno(), max(1, count * SIDE * SIDE))
        thumbnails = np.memmap(file, np.uint8, shape=(count, SIDE, SIDE))
    scan = Scan(np.zeros((count, 2), np.int64), [""] * count, np.zeros(count, np.uint64), thumbnails, {})
    done = 0
    for images in sets:
        for number, facts in enumerate(check_each(len(images), partial(_facts, images), progress, done), done):
            if isinstance(facts, str):
                scan.faults[number] = facts
            else:
                scan.sizes[number] = facts.width, facts.height
                scan.modes[number], scan.digests[number] = facts.mode, facts.digest
                scan.thumbnails[number] = facts.thumbnail
        done += len(images)
    return scan


def _facts(images: ImageCollection, index: int) -> _Facts | str:
    """Return the facts of an image, or why it cannot be read."""
    try:
        mode, pixels, content = _decode(images, index)
    except UnreadableImage as error:
        return str(error)
    gray = grayscale(pixels)
    digest = hashlib.blake2b(content, digest_size=8, salt=b"%dx%d" % gray.size)
    small = gray.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return _Facts(*gray.size, mode, int.from_bytes(digest.digest()), np.asarray(small))


def _decode(images: ImageCollection, index: int) -> tuple[str, Pixels, bytes]:
    """Return the mode, the image, and the bytes of all values."""
    if isinstance(images.storage, FileImages) and images.storage.channels is None:
        with opened_image(images.path(index)) as opened:
            mode, image = opened.mode, upright_rgb(opened)
        return mode, image, image.tobytes()
    pixels = images.pixels(index)
    if isinstance(pixels, Image.Image):
        return pixels.mode, pixels, pixels.tobytes()
    return format_count(len(pixels), "channel"), pixels, pixels.numpy().tobytes()
