"""Problems of annotations: what, where, and how they are handled."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from transxnet.utils.errors import UserError

MAX_UNREADABLE = 0.05
"""Fraction of unusable images above which a data set is refused."""


class Problem(Enum):
    """All problems that the annotation checks distinguish, with their descriptions.

    There are three kinds. Problems that are *repaired*, or harmless, or *skipped* are counted and reported, and
    training continues, unless more than 5% of the images or objects would be skipped. Problems that are *refused* must
    be fixed by the user; all of them are reported together.
    """

    BOX_OUTSIDE = "repaired", "boxes extend beyond their image and are clipped"
    NO_BOX = "repaired", "objects have no box and get the bounding box of their mask"
    ROW_REPEATED = "repaired", "rows repeat an image and its label, and the first is used"
    LABEL_EMPTY = "repaired", "rows have no label and are skipped"
    DUPLICATE_ANNOTATION = "repaired", "annotations have a duplicate or missing id (all are renumbered)"
    NO_LABEL_FILE = "repaired", "images have no label file and are used without objects"
    DUPLICATE_OBJECT = "repaired", "rows occur twice in a file and are used once"
    FOREGROUND_255 = "repaired", "value is used as class 1 (the label maps contain only 0 and 255)"

    NOT_USED = "repaired", "files or folders are not used"
    STRAY_MAP = "repaired", "label maps belong to no image and are not used"

    IMAGE_MISSING = "skipped", "images are missing"
    IMAGE_UNREADABLE = "skipped", "images cannot be read"
    IMAGE_SIZE = "skipped", "images differ in size from their annotations"
    NO_ANNOTATION = "skipped", "images have no annotation file"
    MAP_UNREADABLE = "skipped", "label maps cannot be used"
    MAP_LOSSY = (
        "skipped",
        "label maps are in a lossy format, which changes their values (threshold binary masks and save them as PNG)",
    )
    MAP_SIZE = "skipped", "label maps differ in size from their image"
    ROW_RAGGED = "skipped", "rows differ from the header in their number of cells"
    STRAY_ANNOTATION = "skipped", "annotations belong to no image of the file"
    BOX_EMPTY = "skipped", "boxes are empty"
    BOX_BROKEN = "skipped", "boxes are not four finite numbers"
    COORDINATES = "skipped", "rows have coordinates outside 0 to 1; YOLO's are relative to the image"
    MASK_BROKEN = "skipped", "masks are invalid"

    FILE_BROKEN = "refused", "annotation files cannot be parsed"
    ENTRY_BROKEN = "refused", "entries lack required values, or have values of another type"
    DUPLICATE_IMAGE = "refused", "images have a duplicate id"
    DUPLICATE_FILE = "refused", "images have the file of another image"
    LABELS_DIFFER = "refused", "images have several rows with different labels (if they add up: --targets multilabel)"
    DUPLICATE_CATEGORY = "refused", "categories have a duplicate id or name"
    BOXES_RELATIVE = "refused", "files contain boxes in relative coordinates; accepted: pixels"
    BOXES_ASTRAY = "refused", "files have most boxes outside their image; COCO boxes are [x, y, width, height]"
    UNKNOWN_CATEGORY = "refused", "objects have an undeclared category"
    LABEL_BEYOND = (
        "refused",
        "label maps contain values outside the classes (if 0 means 'ignore', use --zero-is-ignored; binary masks may "
        "contain only 0 and 255)",
    )
    UNKNOWN_COLOR = "refused", "label maps contain colors that no class has (resize maps without interpolation)"

    def __init__(self, treatment: str, words: str):
        self.treatment, self.words = treatment, words

    def describe(self, count: int) -> str:
        """Return the number and what is wrong, as in "1 image is missing" or "2 images are missing"."""
        return f"{count} {_in_singular(self.words) if count == 1 else self.words}"


_OF_IMAGES = frozenset(
    {
        Problem.IMAGE_MISSING,
        Problem.IMAGE_UNREADABLE,
        Problem.IMAGE_SIZE,
        Problem.ROW_RAGGED,
        Problem.NO_ANNOTATION,
        Problem.MAP_UNREADABLE,
        Problem.MAP_LOSSY,
        Problem.MAP_SIZE,
    }
)


@dataclass
class Findings:
    """The problems of a data set, each with its file and id.

    Attributes:
        places: locations of each problem, in the order of the checks.
        images: number of images checked.
        objects: number of objects checked.
    """

    places: dict[Problem, list[str]] = field(default_factory=dict)
    images: int = 0
    objects: int = 0

    def add(self, problem: Problem, place: str) -> None:
        """Record a problem and its location."""
        self.places.setdefault(problem, []).append(place)

    def count(self, problem: Problem) -> int:
        """Number of times the problem was found."""
        return len(self.places.get(problem, ()))

    def notes(self, most: int | None = 10) -> list[str]:
        """A message for each problem that was repaired or skipped, with at most this many locations, or all."""
        return [
            f"{problem.describe(len(places))}{'' if problem.treatment == 'repaired' else ', skipped'}: "
            f"{'; '.join(_first(places, most))}"
            for problem, places in self.places.items()
            if problem.treatment != "refused"
        ]

    def refuse(self) -> None:
        """Raise UserError if problems cannot be repaired, or if too much data would be skipped."""
        refused = [problem for problem in self.places if problem.treatment == "refused"]
        if refused:
            raise UserError(f"the annotations contain errors:\n{self.listed(refused)}\nCorrect them and start again.")
        for images, total, what in ((True, self.images, "images"), (False, self.objects, "objects")):
            lost = [p for p in self.places if p.treatment == "skipped" and (p in _OF_IMAGES) == images]
            count = sum(self.count(problem) for problem in lost)
            if count > MAX_UNREADABLE * total:
                raise UserError(
                    f"{count} of {total} {what} cannot be used, more than {MAX_UNREADABLE:.0%}:\n{self.listed(lost)}\n"
                    "Repair or remove them, or check that this is the right folder."
                )

    def listed(self, problems: Sequence[Problem] | None = None) -> str:
        """List the first locations of these problems, or of all."""
        lines = []
        for problem in self.places if problems is None else problems:
            places = self.places[problem]
            lines += [f"{problem.describe(len(places))}:", *(f"  {place}" for place in _first(places))]
        return "\n".join(lines)


_SUBJECTS = {
    "annotations": "annotation", "boxes": "box", "categories": "category", "entries": "entry", "files": "file",
    "images": "image", "maps": "map", "masks": "mask", "objects": "object", "rows": "row",
}  # fmt: skip
_VERBS = {
    "are": "is", "belong": "belongs", "contain": "contains", "differ": "differs", "extend": "extends", "get": "gets",
    "have": "has", "lack": "lacks", "occur": "occurs", "repeat": "repeats", "their": "its",
}  # fmt: skip


def _in_singular(words: str) -> str:
    """Change a sentence about several things to one about a single one, up to a remark after it."""
    sentence = re.match(r"[^;(]*", words)
    assert sentence is not None
    subject = re.sub(rf"\b({'|'.join(_SUBJECTS)})\b", lambda found: _SUBJECTS[found[0]], sentence[0], count=1)
    changed = re.sub(rf"\b({'|'.join(_VERBS)})\b", lambda found: _VERBS[found[0]], subject)
    return changed + words[sentence.end() :]


def _first(places: Sequence[str], most: int | None = 10) -> list[str]:
    if most is None or len(places) <= most:
        return list(places)
    return [*places[:most], f"and {len(places) - most} more"]
