"""Names of the training, validation and test sets, as folders, lists and annotation files use them."""

import re
from typing import Any, NamedTuple

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "valid", "dev", "eval", "evaluation", "holdout")
TEST_NAMES = ("test", "testing")

_PART_OF = {
    name: part for part, names in {"train": TRAIN_NAMES, "val": VAL_NAMES, "test": TEST_NAMES}.items() for name in names
}


class Parts(NamedTuple):
    """Locations of the training, validation and test set, as their format describes them; None for a missing set."""

    train: Any = None
    val: Any = None
    test: Any = None


def part_of(name: str) -> str | None:
    """Return the set that a name stands for: "train", "val", "test", or None.

    Upper and lower case are equal, and a year may follow: ``Validation``, ``train2017``.
    """
    return _PART_OF.get(re.sub(r"[-_ ]?\d*$", "", name.strip().casefold()))
