"""A check of training and validation set that takes seconds: the same images in both, and rare classes."""

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from transxnet.data.class_frequency import count_classes, rare_classes
from transxnet.data.datasets.image_collection import ArrayImages, FileImages, ImageCollection
from transxnet.data.formats.unreadable_images import FULL_UP_TO
from transxnet.data.open_data import DataSource
from transxnet.utils.quantities import format_count

_HEAD = 65_536
"""Bytes of a file that are read before the whole file is."""


def describe_problems(source: DataSource) -> str | None:
    """Describe the problems of training and validation set in one line, with the command that finds more.

    Of more than ``FULL_UP_TO`` images the files are not compared: so many sizes coincide that most files would be read.

    Returns:
        The line; None for a stream, a data set in Python or images without labels, which ``transxnet check`` does not
        read either.
    """
    if source.recognition.format in ("reader", "dataset", "images"):
        return None
    command = f"transxnet check {shlex.quote(source.recognition.data)}"
    compared = len(source.train) + len(source.val) <= FULL_UP_TO
    problems = "; ".join(_problems(source.train, source.val, compared))
    if problems:
        return f"check: {problems}. For details: {command}"
    found = "no exact duplicates in two sets, no rare classes" if compared else "no rare classes"
    others = "near duplicates" if compared else "duplicates"
    return f"check: {found}. For {others}: {command}"


def _problems(train: ImageCollection, val: ImageCollection, compared: bool) -> Iterator[str]:
    if compared and (shared := shared_images(train, val)):
        yield f"{format_count(shared, 'validation image')} also in the training set"
    counts = count_classes(train)
    if counts is not None and (rare := rare_classes(counts.tolist())):
        most, least = (train.class_names[i] for i in (counts.argmax(), min(rare, key=lambda i: counts[i])))
        yield (
            f"{format_count(len(rare), 'rare class', 'rare classes')}, such as {least} "
            f"({counts.max() / min(counts[rare]):.0f} times rarer than {most})"
        )


def shared_images(train: ImageCollection, val: ImageCollection) -> int:
    """Return the number of validation images with the same file contents or pixels as a training image.

    Files are compared by size first, then by their first bytes, and only the rest as a whole.
    """
    sets = (train, val)
    chosen = [list(range(len(images))) for images in sets]
    for key in _keys(train) if type(train.storage) is type(val.storage) else ():
        keys = [[key(images, i) for i in own] for images, own in zip(sets, chosen, strict=True)]
        both = set(keys[0]).intersection(keys[1])
        chosen = [
            [i for i, value in zip(own, values, strict=True) if value in both]
            for own, values in zip(chosen, keys, strict=True)
        ]
    return len(chosen[1])


def _keys(images: ImageCollection) -> list[Callable[[ImageCollection, int], Any]]:
    """Return functions of an image whose values are equal for equal images, the cheapest first."""
    if isinstance(images.storage, FileImages):
        return [_size, partial(_digest, limit=_HEAD), _digest]
    return [_pixels] if isinstance(images.storage, ArrayImages) else []


def _size(images: ImageCollection, index: int) -> int:
    return os.path.getsize(images.path(index))


def _digest(images: ImageCollection, index: int, limit: int | None = None) -> bytes:
    with open(images.path(index), "rb") as file:
        return hashlib.blake2b(file.read(-1 if limit is None else limit), digest_size=16).digest()


def _pixels(images: ImageCollection, index: int) -> bytes:
    return hashlib.blake2b(np.asarray(images.image(index)).tobytes(), digest_size=16).digest()
