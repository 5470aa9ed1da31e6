"""Findings of the checks: what was found in which images, and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Literal

from transxnet.data.formats.exclusions import EXCLUDE, REVIEW

Action = Literal["exclude", "review"]


class Kind(Enum):
    """All kinds of findings, most important first, with name, heading and explanation."""

    UNREADABLE = "unreadable", "Unreadable images", "These images cannot be decoded. Training skips them."
    EXACT_LEAK = (
        "exact_leak",
        "Exact duplicates in two sets",
        "The same pixels in two sets: the validation or test score is too high.",
    )
    NEAR_LEAK = (
        "near_leak",
        "Near duplicates in two sets",
        "Mirrored, resized, recompressed or slightly cropped copies in two sets; or different images of one scene or "
        "one kind of part.",
    )
    GROUP_LEAK = (
        "group_leak",
        "Groups in two sets",
        "Images of one group, such as a patient, are in two sets. Split them with transxnet train --group-from.",
    )
    EXACT_CONFLICT = (
        "exact_conflict",
        "Exact duplicates with different labels",
        "The same pixels with different labels: at least one label is wrong.",
    )
    NEAR_CONFLICT = (
        "near_conflict",
        "Near duplicates with different labels",
        "Almost the same image with different labels.",
    )
    LABEL_ERROR = (
        "label_error",
        "Likely label errors",
        "Another class is more probable, by predictions that were not trained on these labels; most confident first.",
    )
    EXACT_DUPLICATE = "exact_duplicate", "Exact duplicates", "The same pixels several times in one set."
    NEAR_DUPLICATE = "near_duplicate", "Near duplicates", "Almost the same image several times in one set."
    IMBALANCE = "imbalance", "Class imbalance", "Classes that are rare or missing in a set."
    BOX_OUTSIDE = "box_outside", "Boxes outside their image", "These boxes are clipped, or skipped if nothing is left."
    BOX_DUPLICATE = "box_duplicate", "Duplicate boxes", "Two boxes of one image with an IoU of at least 0.9."
    BOX_TINY = "box_tiny", "Tiny boxes", "Boxes with a side of less than 4 pixels."
    BOX_HUGE = "box_huge", "Huge boxes", "Boxes that cover at least 95% of their image."

    EXCLUDED = (
        "excluded",
        "Excluded by the run",
        "The run of the model was trained and evaluated without these images. fixes.csv excludes them again.",
    )

    def __init__(self, key: str, title: str, explanation: str):
        self.key, self.title, self.explanation = key, title, explanation


@dataclass(frozen=True)
class DataFinding:
    """A problem.

    Attributes:
        kind: what was found.
        images: numbers of the images, over all sets in order; empty if it is about no particular image.
        detail: description.
        exclude: numbers of the images to exclude from training; the others are to be reviewed.
        boxes: (x1, y1, x2, y2) of the boxes that it is about, in the only image.
    """

    kind: Kind
    images: tuple[int, ...]
    detail: str
    exclude: tuple[int, ...] = ()
    boxes: tuple[tuple[float, ...], ...] = ()

    def action(self, number: int) -> Action:
        """Return the suggested action for an image."""
        return EXCLUDE if number in self._excluded else REVIEW

    @cached_property
    def _excluded(self) -> frozenset[int]:
        """The numbers to exclude, for groups of many images."""
        return frozenset(self.exclude)


def by_kind(findings: Sequence[DataFinding]) -> dict[Kind, list[DataFinding]]:
    """Return the findings of each kind that occurs, in the order of the kinds."""
    found = {kind: [finding for finding in findings if finding.kind is kind] for kind in Kind}
    return {kind: members for kind, members in found.items() if members}
