"""A check of training and validation set that takes seconds: the same images in both, and rare classes."""

import hashlib
import os
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from transxnet.data.class_frequency import count_classes, rare_classes
from transxnet.data.datasets.classification_dataset import ClassificationSet
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
        other = _labeled_otherwise(train, val, shared)
        yield f"{format_count(len(shared), 'validation image')} also in the training set" + (
            f", {other:,} of them with another label" if other else ""
        )
    counts = count_classes(train)
    if counts is not None and (rare := rare_classes(counts.tolist())):
        most, least = (train.class_names[i] for i in (counts.argmax(), min(rare, key=lambda i: counts[i])))
        yield (
            f"{format_count(len(rare), 'rare class', 'rare classes')}, such as {least} "
            f"({counts.max() / min(counts[rare]):.0f} times rarer than {most})"
        )


def shared_images(train: ImageCollection, val: ImageCollection) -> dict[int, list[int]]:
    """Return the validation images with the same file contents or pixels as training images, and these images.

    Files are compared by size first, then by their first bytes, and only the rest as a whole.
    """
    keys = _keys(train) if type(train.storage) is type(val.storage) else []
    groups = [(list(range(len(train))), list(range(len(val))))] if keys else []
    for key in keys:
        found: dict[Any, tuple[list[int], list[int]]] = {}
        for number, sets in enumerate(groups):
            for place, (images, own) in enumerate(zip((train, val), sets, strict=True)):
                for i in own:
                    found.setdefault((number, key(images, i)), ([], []))[place].append(i)
        groups = [sets for sets in found.values() if all(sets)]
    return {i: copies for copies, own in groups for i in own}


def _labeled_otherwise(train: ImageCollection, val: ImageCollection, shared: dict[int, list[int]]) -> int:
    """Return the number of shared validation images of which a copy has another class, labels or value."""
    if not (isinstance(train, ClassificationSet) and isinstance(val, ClassificationSet)):
        return 0
    labels, own = train.own_labels, val.own_labels
    return sum(
        any(not np.array_equal(labels[copy], own[i], equal_nan=True) for copy in copies) for i, copies in shared.items()
    )


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
