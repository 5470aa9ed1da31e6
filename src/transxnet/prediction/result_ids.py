"""The ids of images and classes in a detector's results."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.formats.coco import read_coco
from transxnet.data.formats.coco_folders import find_coco
from transxnet.data.formats.findings import Findings
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class ResultIds:
    """The ids in COCO's results.

    Attributes:
        category_ids: of the K classes.
        image_ids: of annotated images, by absolute path; the other images are numbered after the largest.
    """

    category_ids: Sequence[int]
    image_ids: dict[str, int] = field(default_factory=dict)

    def image_id(self, path: str, number: int) -> int:
        """The id of an image, the ``number``-th from 1."""
        return self.image_ids.get(os.path.abspath(path), self._largest + number)

    @cached_property
    def _largest(self) -> int:
        return max(self.image_ids.values(), default=0)


def find_result_ids(inputs: Sequence[str | Path], class_names: Sequence[str], category_ids: list[int]) -> ResultIds:
    """Take the ids from the annotation files in COCO format in the folders with the images.

    Several files are used if their category ids are equal and no image id occurs twice. Files with errors are ignored,
    since predictions need no annotations.

    Args:
        inputs: files and folders with images.
        class_names: the classes of the detector.
        category_ids: their ids. Classes that the files do not have keep them, or get new ones if the files use them.
    """
    sets = [images for text in map(str, inputs) if os.path.isdir(text) for images in _annotated(Path(text))]
    image_ids = {os.path.abspath(images.path(i)): images.image_id(i) for images in sets for i in range(len(images))}
    categories = [
        {
            name: number
            for name, number in zip(images.class_names, images.category_ids, strict=True)
            if number is not None
        }
        for images in sets
    ]
    if any(one != categories[0] for one in categories) or len(set(image_ids.values())) < sum(map(len, sets)):
        return ResultIds(category_ids)
    known = categories[0] if categories else {}
    taken, chosen = {*known.values(), *category_ids}, []
    for name, own in zip(class_names, category_ids, strict=True):
        number = known.get(name, own)
        if name not in known and own in known.values():
            number = max(taken) + 1
            taken.add(number)
        chosen.append(number)
    return ResultIds(chosen, image_ids)


def _annotated(folder: Path) -> list[DetectionSet]:
    findings = Findings()
    try:
        sets = [read_coco(part, findings, masks=False) for part in find_coco(folder) if part is not None]
        findings.refuse()
    except UserError:
        return []
    return [images for images in sets if images is not None]
