"""Names of the training, validation and test sets, as folders, lists and annotation files use them."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from transxnet.data.reading.file_search import named_folders

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


def part_in(name: str) -> str | None:
    """Return the set whose name is a word of a file name: ``instances_train2017``, ``boxes-Validation``, ``trainval``.

    If there are several such words, training precedes validation, and validation precedes test.
    """
    words = re.findall(r"[^\W\d_]+", name.casefold())
    found = {"train" if word == "trainval" else part_of(word) for word in words}
    return next((part for part in Parts._fields if part in found), None)


def part_folders(root: Path) -> Parts:
    """The folders of the sets directly below the root; of several for one set, the most common name."""
    return Parts(*(next(iter(folders_of(root, part)), None) for part in Parts._fields))


def folders_of(root: Path, part: str) -> list[Path]:
    """The folders directly below the root that are named like the set, the most common name first."""
    found = {name: folder for name, folder in named_folders(root).items() if part_of(name) == part}
    common = [name for name in _PART_OF if name in found]
    return [found[name] for name in dict.fromkeys([*common, *sorted(found)])]


def arrange_parts(train: Any = None, val: Any = None, test: Any = None) -> Parts:
    """Arrange the sets that a format found. A test set alone is used as validation set: there is nothing to choose."""
    return Parts(train, val, test) if train is not None or val is not None else Parts(val=test)
