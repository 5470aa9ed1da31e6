"""Names of the training, validation and test sets, as folders, lists and annotation files use them."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from transxnet.data.reading.file_search import named_folders
from transxnet.utils.errors import UserError

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


def folders_of(root: Path, part: str) -> list[Path]:
    """The folders directly below the root that are named like the set, the most common name first."""
    found = {name: folder for name, folder in named_folders(root).items() if part_of(name) == part}
    common = [name for name in _PART_OF if name in found]
    return [found[name] for name in dict.fromkeys([*common, *sorted(found)])]


def part_folders(folders: Iterable[Path]) -> Parts:
    """Sort folders into the three sets by their names; all others are ignored.

    Raises:
        UserError: two folders are for the same set.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        part = part_of(folder.name)
        if part in found:
            raise UserError(
                f"{folder.parent} contains two folders for one set: {found[part].name}/ and {folder.name}/. Accepted: "
                "one each for training, validation and test. Move one of them away."
            )
        if part is not None:
            found[part] = folder
    return Parts(**found)


def choose_part(parts: Parts, split: str | None, data: str) -> Any:
    """Return one set by any of its names; by default the first of validation, test and training set that exists.

    Args:
        parts: the sets of the data; None for missing ones.
        split: name of the set, such as "validation" or "test", or None.
        data: name of the data, for messages.

    Raises:
        UserError: there is no such set.
    """
    if split is None:
        return next((part for part in (parts.val, parts.test, parts.train) if part is not None), None)
    wanted = part_of(split)
    chosen = None if wanted is None else getattr(parts, wanted)
    if chosen is None:
        existing = ", ".join(name for name, part in parts._asdict().items() if part is not None)
        raise UserError(f"{data} has no split {split!r}. Accepted: {existing}.")
    return chosen
