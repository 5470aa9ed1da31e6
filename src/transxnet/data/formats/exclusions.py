"""Exclude the images that a CSV file names, such as the ``fixes.csv`` of ``transxnet check``."""

import csv
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.formats.parts import Parts, part_of
from transxnet.data.reading.table_files import open_table
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.quantities import format_count

EXCLUDE: Literal["exclude"] = "exclude"
"""The action of the rows whose images are excluded."""
REVIEW: Literal["review"] = "review"
"""The action of the rows whose images a person is to look at."""


@dataclass(frozen=True)
class Exclusions:
    """The images that a table names.

    Attributes:
        path: the table.
        names: names to exclude from each set; those of None from any set.
    """

    path: Path
    names: Mapping[str | None, Set[str]]

    @property
    def all_names(self) -> set[str]:
        """The names for any set."""
        return set().union(*self.names.values())

    def has(self, name: str, part: str) -> bool:
        """Whether an image of the set train, val or test is excluded."""
        return name in self.names[None] or name in self.names[part]

    def apply(self, sets: Sequence[Any], *, may_be_absent: bool = False) -> tuple[list[Any], str]:
        """Return the sets without these images, and a note with their number.

        Args:
            sets: the training, validation and test set; None for a missing set.
            may_be_absent: accept that no image has one of the names.

        Raises:
            UserError: no image has one of the names, all images of a set have, or the images are read in order.
        """
        kept: list[Any] = []
        counts: dict[str, int] = {}
        for part, images in zip(Parts._fields, sets, strict=True):
            if images is None:
                kept.append(None)
                continue
            if not isinstance(images, ImageCollection):
                raise UserError("--exclude needs images in files or in a sample; shards are read in order. Remove it.")
            left = images.subset(np.flatnonzero([not self.has(name, part) for name in images.own_names]).astype(int))
            kept.append(left)
            counts[part] = len(images) - len(left)
            if counts[part] and not len(left):
                which = {"train": "training", "val": "validation"}.get(part, part)
                raise UserError(f"{self.path} excludes all {which} images. Remove rows from the file.")
        total, names = sum(counts.values()), self.all_names
        if names and not total and not may_be_absent:
            raise UserError(
                f"no image of the data is named in {self.path}. Check that the file is for this data; if its images "
                "are deleted, remove --exclude."
            )
        by_set = ", ".join(f"{count:,} {part}" for part, count in counts.items() if count)
        absent = len(names.difference(*(images.own_names for images in sets if images is not None)))
        return kept, "".join(
            [
                f"{format_count(total, 'image')} excluded by {self.path}",
                f" ({by_set})" if by_set else "",
                f"; {format_count(absent, 'name')} there without an image" if absent else "",
            ]
        )


def copy_exclusions(path: str | Path, target: Path) -> None:
    """Write the names of the images to exclude as CSV, for the run folder."""
    rows = [(name, part or "") for part, names in read_exclusions(path).names.items() for name in sorted(names)]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "set"), *rows])

    write_atomic(target, write)


def read_exclusions(path: str | Path) -> Exclusions:
    """Read the names of the images to exclude.

    Args:
        path: a table with the column ``image``, the name of an image. With a column ``set``, a row is for images of
            that set only, unless it is empty. With a column ``action``, only rows with "exclude" count.

    Raises:
        UserError: the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"the file {path} does not exist. --exclude is a table with the column image.")
    table = open_table(path)
    if "image" not in table.columns:
        raise UserError(
            f"cannot read {path}: column 'image' is missing. Columns found: {', '.join(table.columns)}. Rename the "
            "column with the names of the images to image."
        )
    columns = ["image", *(name for name in ("set", "action") if name in table.columns)]
    named: dict[str | None, set[str]] = {None: set(), **{part: set() for part in Parts._fields}}
    for line, cells in table.rows(columns):
        row = dict(zip(columns, cells or (), strict=bool(cells)))
        action = str(row.get("action", EXCLUDE)).strip().lower()
        if action not in (EXCLUDE, REVIEW, ""):
            raise UserError(f"line {line} of {path} has action {action!r}. Accepted: exclude, review or an empty cell.")
        if action != EXCLUDE or not row.get("image"):
            continue
        name = str(row.get("set", ""))
        part = part_of(name)
        if name and part is None:
            raise UserError(f"line {line} of {path} has set {name!r}. Accepted: train, val, test, or an empty cell.")
        named[part].add(str(row["image"]))
    return Exclusions(path, named)
