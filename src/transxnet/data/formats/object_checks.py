"""Check the boxes and masks of an annotation file one by one."""

import math
from collections import Counter
from typing import Any

import numpy as np

from transxnet.data.datasets.detection_dataset import Objects, Segmentations
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.reading.masks import BadMask, check_mask, decode_mask, mask_box

TOLERANCE = 1.0
"""Boxes that extend at most this many pixels beyond their image were rounded; they are clipped without a warning."""

FEW = 10
"""Up to this many boxes outside their image are mistakes; more, and over half of all, mean another format."""


class ObjectCollector:
    """Collects objects in any order, repairs or drops invalid ones, and sorts them by image.

    Args:
        sizes: (N, 2) height and width of the images.
        findings: receives the problems.
        masks: keep the objects' masks; objects without a mask are then dropped.
    """

    def __init__(self, sizes: np.ndarray, findings: Findings, masks: bool):
        self._sizes, self._findings, self._masks = sizes.tolist(), findings, masks
        self._rows: list[tuple[int, tuple[float, ...], int, float, bool, Any]] = []
        self._segmentations: list[Any] = []
        self.seen = self._outside = 0
        self._reach = self._largest = 0.0

    def add(
        self,
        image: int,
        box: Any,
        label: int,
        *,
        place: str,
        area: Any = None,
        crowd: bool = False,
        number: Any = None,
        segmentation: Any = None,
    ) -> None:
        """Add an object.

        Args:
            image: index of its image.
            box: x, y, width and height in pixels; None if only a mask is given.
            label: 1 to K.
            place: its location in the file, for messages.
            area: in pixels; if missing, the area of the mask, or else of the box.
            crowd: whether the region is ignored in training and evaluation.
            number: id of the annotation.
            segmentation: as for :func:`~transxnet.data.reading.masks.decode_mask`.
        """
        size = self._sizes[image]
        self._findings.objects += 1
        self.seen += 1
        if self._masks or box is None:
            try:
                check_mask(segmentation, *size)
                if box is None:
                    box = self._box_of(segmentation, size, place)
            except BadMask as error:
                self._findings.add(Problem.MASK_BROKEN, f"{place}: {error}")
                return
        corners = self._corners(box, size, place)
        if corners is None:
            return
        area = as_number(area)
        if area is None or not 0 < area <= size[0] * size[1]:
            if self._masks:
                area = decode_mask(segmentation, *size).sum()
                if not area:
                    self._findings.add(Problem.MASK_BROKEN, f"{place}: the mask is empty")
                    return
            else:
                area = (corners[2] - corners[0]) * (corners[3] - corners[1])
        self._rows.append((image, corners, label, float(area), crowd, number))
        if self._masks:
            self._segmentations.append(segmentation)

    def collected(self, file: str) -> tuple[Objects, np.ndarray]:
        """Return all objects, and the start of each image's objects plus the end of the last one's.

        Args:
            file: the file that they came from, for messages.
        """
        if 0 < self._reach <= 1 and self._largest > 2:
            self._findings.add(Problem.BOXES_RELATIVE, f"{file}: the largest coordinate is {self._reach:g}")
        if self._outside > max(FEW, self.seen / 2):
            self._findings.add(
                Problem.BOXES_ASTRAY, f"{file}: {self._outside} of {self.seen} extend beyond their image"
            )
        images, boxes, labels, areas, crowd, numbers = zip(*self._rows, strict=True) if self._rows else ((),) * 6
        order = np.argsort(np.array(images, np.int64), kind="stable")
        objects = Objects(
            np.array(boxes, np.float32).reshape(-1, 4)[order],
            np.array(labels, np.int64)[order],
            np.array(areas, np.float32)[order],
            np.array(crowd, bool)[order],
            self._ids(numbers, file)[order],
            Segmentations(self._segmentations[i] for i in order) if self._masks else None,
        )
        counts = np.bincount(np.array(images, np.int64), minlength=len(self._sizes))
        return objects, np.concatenate([[0], np.cumsum(counts)])

    def _box_of(self, segmentation: Any, size: list[int], place: str) -> list[int]:
        found = mask_box(decode_mask(segmentation, *size))
        if found is None:
            raise BadMask("the mask is empty")
        self._findings.add(Problem.NO_BOX, place)
        return [found[0], found[1], found[2] - found[0], found[3] - found[1]]

    def _corners(self, box: Any, size: list[int], place: str) -> tuple[float, ...] | None:
        """The box's corners clipped to the image, or None if nothing is left."""
        values = [as_number(value) for value in box] if isinstance(box, list) and len(box) == 4 else [None]
        if None in values:
            self._findings.add(Problem.BOX_BROKEN, f"{place}: {box}")
            return None
        box = values
        height, width = size
        x, y, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
        self._reach, self._largest = max(self._reach, right, bottom), max(self._largest, height, width)
        inside = tuple(
            float(np.float32(min(max(value, 0), limit)))
            for value, limit in ((x, width), (y, height), (right, width), (bottom, height))
        )
        outside = min(x, y) < -TOLERANCE or right > width + TOLERANCE or bottom > height + TOLERANCE
        self._outside += outside
        if inside[2] <= inside[0] or inside[3] <= inside[1]:
            where = f", outside {width}x{height}" if outside and box[2] > 0 and box[3] > 0 else ""
            self._findings.add(Problem.BOX_EMPTY, f"{place}: {box}{where}")
            return None
        if outside:
            self._findings.add(Problem.BOX_OUTSIDE, f"{place}: {box} in {width}x{height}")
        return inside

    def _ids(self, numbers: tuple[Any, ...], file: str) -> np.ndarray:
        """The annotations' ids if they are unique, else numbers from 1."""
        ids = [as_id(number) for number in numbers]
        times = Counter(ids)
        faults = [
            f"{file}: id {number}, {count} times" for number, count in times.items() if number is not None and count > 1
        ]
        if times[None]:
            faults.append(f"{file}: {times[None]} without an integer id")
        for fault in faults:
            self._findings.add(Problem.DUPLICATE_ANNOTATION, fault)
        return np.arange(1, len(ids) + 1) if faults else np.array(ids, np.int64)


def as_id(value: Any) -> int | None:
    """The integer that fits into 64 bits, also written as 1.0; None for other values."""
    whole = int(value) if type(value) is float and value.is_integer() else value
    return whole if type(whole) is int and -(2**63) <= whole < 2**63 else None


def as_number(value: Any) -> float | None:
    """The finite number, also written as text; None for other values."""
    if type(value) is str:
        try:
            value = float(value)
        except ValueError:
            return None
    known = (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 2**53)
    return value if known else None


def as_flag(value: Any) -> bool | None:
    """Whether a mark such as ``iscrowd`` or ``difficult`` is set; None for a value that is neither 0 nor 1."""
    text = str(value).strip().casefold() if isinstance(value, (bool, int, float, str)) else value
    return _FLAGS.get(text) if text is None or isinstance(text, str) else None


_FLAGS: dict[str | None, bool] = {
    **dict.fromkeys((None, "", "0", "0.0", "false"), False),
    **dict.fromkeys(("1", "1.0", "true"), True),
}
