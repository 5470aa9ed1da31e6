"""Check many image files, and drop those that cannot be used."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import FileImages, ImageCollection
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.reading.image_decoding import UnreadableImage, quiet_pillow
from transxnet.utils.errors import UserError

FULL_UP_TO = 50_000
"""Of larger sets only the headers are checked, since decoding everything takes too long. Unreadable images are then
replaced during training; see :class:`~transxnet.data.datasets.image_dataset.ImageDataset`."""

T = TypeVar("T")
C = TypeVar("C")


def check_each(
    count: int, check: Callable[[int], T], progress: Callable[[int], Any] | None = None, done: int = 0
) -> Iterator[T]:
    """``check(0)`` to ``check(count - 1)``, in order, on several threads; decoding releases the GIL.

    Args:
        count: number of images.
        check: called with the position of an image.
        progress: called with the number of images checked.
        done: number of images checked before.
    """
    with quiet_pillow(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, count, 1024):  # the pool queues everything it gets: ImageNet would take 2 GB
            chunk = range(start, min(start + 1024, count))
            for position, result in zip(chunk, pool.map(check, chunk), strict=True):
                yield result
                if progress is not None:
                    progress(done + position + 1)


def drop_unusable(
    parts: Sequence[C], findings: Findings, progress: Callable[[int], Any] | None = None, full_up_to: int = FULL_UP_TO
) -> list[C]:
    """Drop images that cannot be read, or whose size differs from their annotations.

    Args:
        parts: sets of images; None, streams, and images that are not in files are returned unchanged.
        findings: receives the dropped images; the caller refuses the data if there are too many.
        progress: called with the number of images checked.
        full_up_to: of larger sets only the headers are checked.
    """
    done = 0
    kept: list[Any] = []
    for part in parts:
        if isinstance(part, ImageCollection) and isinstance(part.storage, FileImages):
            check = partial(_fault, part, part.storage, len(part) <= full_up_to)
            usable = np.ones(len(part), bool)
            for position, fault in enumerate(check_each(len(part), check, progress, done)):
                if fault is not None:
                    usable[position] = False
                    findings.add(fault[0], f"{part.name(position)}: {fault[1]}")
            done += len(part)
            kept.append(part if usable.all() else part.subset(np.flatnonzero(usable)))
        else:
            kept.append(part)
    return kept


def drop_unreadable(*parts: C, progress: Callable[[int], Any] | None = None) -> tuple[list[C], list[str]]:
    """Drop the images of classification data that cannot be read; return the sets, and notes that name these images.

    Args:
        *parts: the training set first. They are judged together, so that one bad file in a small validation set is no
            error.
        progress: called with the number of images checked.

    Raises:
        UserError: more than 5% of all images, or a whole class of the training set, cannot be read.
    """
    findings = Findings(images=sum(len(part) for part in parts if isinstance(part, ClassificationSet)))
    kept = drop_unusable(parts, findings, progress)
    before, after = parts[0], kept[0]
    if isinstance(before, ClassificationSet) and isinstance(after, ClassificationSet) and after is not before:
        lost = np.setdiff1d(before.present_classes, after.present_classes)
        if len(lost):
            classes = ", ".join(repr(before.class_names[c]) for c in lost)
            raise UserError(
                f"no image of class {classes} can be read:\n{findings.listed()}\nRepair the images, or remove the "
                "class."
            )
    findings.refuse()
    return kept, findings.notes(most=None)


def _fault(images: ImageCollection, storage: FileImages, full: bool, position: int) -> tuple[Problem, str] | None:
    try:
        size = storage.size(images.indices[position], full)
    except UnreadableImage as error:
        return Problem.IMAGE_UNREADABLE, str(error)
    if not isinstance(images, DetectionSet):
        return None
    height, width = images.own_sizes[position].tolist()
    if size == (height, width):
        return None
    rotated = "; they may ignore the EXIF orientation" if size == (width, height) else ""
    return Problem.IMAGE_SIZE, f"image {size[1]}x{size[0]}, annotations {width}x{height}{rotated}"
