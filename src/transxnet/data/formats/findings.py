"""Problems of annotations: what, where, and how they are handled."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from transxnet.utils.errors import UserError

MAX_UNREADABLE = 0.05
"""Fraction of unusable images above which a data set is refused."""


class Problem(Enum):
    """All problems that the annotation checks distinguish, with their descriptions.

    There are three kinds. Problems that are *repaired* or *left out* are counted and reported, and training continues,
    unless more than 5% of the images or objects would be left out. Problems that are *refused* must be fixed by the
    user; all of them are reported together.
    """

    BOX_OUTSIDE = "repaired", "boxes reach beyond their image and are cut off at its edges"
    NO_BOX = "repaired", "objects have no box and get the smallest around their mask"
    DUPLICATE_ANNOTATION = "repaired", "annotations have the id of another, or none, and all are numbered anew"
    FOREGROUND_255 = "repaired", "set of label maps holds 0 and 255 only, of which 255 is taken for class 1"

    IMAGE_MISSING = "left out", "images are missing"
    IMAGE_UNREADABLE = "left out", "images can't be read"
    IMAGE_SIZE = "left out", "images are not of the size that their annotations say"
    NO_ANNOTATION = "left out", "images have no annotation file"
    MAP_UNREADABLE = "left out", "label maps can't be used"
    MAP_SIZE = "left out", "label maps are not of their image's size"
    STRAY_ANNOTATION = "left out", "annotations belong to no image of their file"
    BOX_EMPTY = "left out", "boxes are empty"
    BOX_BROKEN = "left out", "boxes are not four finite numbers"
    MASK_BROKEN = "left out", "masks can't be made"

    FILE_BROKEN = "refused", "annotation files can't be parsed"
    ENTRY_BROKEN = "refused", "entries lack what they must say"
    DUPLICATE_IMAGE = "refused", "images have the id of another"
    DUPLICATE_CATEGORY = "refused", "categories have the id or the name of another"
    BOXES_RELATIVE = "refused", "files hold boxes that look like shares of the image; they must be in pixels"
    BOXES_ASTRAY = "refused", "files hold boxes most of which leave their image; COCO's are [x, y, width, height]"
    UNKNOWN_CATEGORY = "refused", "objects are of a category that is not declared"
    LABEL_BEYOND = "refused", "label maps hold values beyond the classes (where 0 is 'ignore', say zero_is_ignored)"

    def __init__(self, treatment: str, words: str):
        self.treatment, self.words = treatment, words


_OF_IMAGES = frozenset(
    {
        Problem.IMAGE_MISSING,
        Problem.IMAGE_UNREADABLE,
        Problem.IMAGE_SIZE,
        Problem.NO_ANNOTATION,
        Problem.MAP_UNREADABLE,
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
        """A message for each problem that was repaired or left out, with at most this many locations, or all."""
        return [
            f"{len(places)} {problem.words}{'' if problem.treatment == 'repaired' else ', left out'}: "
            f"{'; '.join(_first(places, most))}"
            for problem, places in self.places.items()
            if problem.treatment != "refused"
        ]

    def refuse(self) -> None:
        """Raise UserError if problems cannot be repaired, or if too much data would be left out."""
        refused = [problem for problem in self.places if problem.treatment == "refused"]
        if refused:
            raise UserError(f"the annotations can't be used:\n{self.listed(refused)}\nCorrect them and start again.")
        for images, total, what in ((True, self.images, "images"), (False, self.objects, "objects")):
            lost = [p for p in self.places if p.treatment == "left out" and (p in _OF_IMAGES) == images]
            count = sum(self.count(problem) for problem in lost)
            if count > MAX_UNREADABLE * total:
                raise UserError(
                    f"{count} of {total} {what} can't be used, more than {MAX_UNREADABLE:.0%}:\n{self.listed(lost)}\n"
                    "Repair or remove them, or check that this is the right folder."
                )

    def listed(self, problems: Sequence[Problem] | None = None) -> str:
        """List the first locations of these problems, or of all."""
        lines = []
        for problem in self.places if problems is None else problems:
            places = self.places[problem]
            lines += [f"{len(places)} {problem.words}:", *(f"  {place}" for place in _first(places))]
        return "\n".join(lines)


def _first(places: Sequence[str], most: int | None = 10) -> list[str]:
    if most is None or len(places) <= most:
        return list(places)
    return [*places[:most], f"and {len(places) - most} more"]
