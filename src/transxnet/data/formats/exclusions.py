"""Exclude the images that a CSV file names, such as the ``fixes.csv`` of ``transxnet check``."""

import csv
from collections.abc import Sequence
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


def exclude_images(sets: Sequence[Any], path: str | Path) -> tuple[list[Any], str]:
    """Return the sets without the images that a table names, and a note with their number.

    Args:
        sets: the training, validation and test set; None for a missing set.
        path: a table with the column ``image``, the name of an image. With a column ``set``, a row is for images of
            that set only, unless it is empty. With a column ``action``, only rows with "exclude" count.

    Raises:
        UserError: the file cannot be read, no image has one of the names, or no training image is left.
    """
    named = _read_names(Path(path))
    kept: list[Any] = []
    for part, images in zip(Parts._fields, sets, strict=True):
        if images is not None and not isinstance(images, ImageCollection):
            raise UserError("--exclude needs images in files or in a sample; shards are read in order. Remove it.")
        names = named[None] | named[part]
        kept.append(
            images and images.subset(np.flatnonzero([name not in names for name in images.own_names]).astype(np.int64))
        )
    excluded = [0 if images is None else len(images) - len(left) for images, left in zip(sets, kept, strict=True)]
    total = len(set().union(*named.values()))
    if total and not any(excluded):
        raise UserError(f"no image of the data is named in {path}. Check that the file is for this data.")
    if not len(kept[0]):
        raise UserError(f"{path} excludes all training images. Remove rows from the file.")
    counts = ", ".join(f"{count:,} {part}" for part, count in zip(Parts._fields, excluded, strict=True) if count)
    return kept, f"{format_count(sum(excluded), 'image')} excluded by {path}" + (f" ({counts})" if counts else "")


def copy_exclusions(path: str | Path, target: Path) -> None:
    """Write the names of the images to exclude as CSV, for the run folder."""
    rows = [(name, part or "") for part, names in _read_names(Path(path)).items() for name in sorted(names)]

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "set"), *rows])

    write_atomic(target, write)


def _read_names(path: Path) -> dict[str | None, set[str]]:
    """Return the names to exclude from each set; those of None from any set."""
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
        if row.get("action", EXCLUDE) != EXCLUDE or not row.get("image"):
            continue
        name = str(row.get("set", ""))
        part = part_of(name)
        if name and part is None:
            raise UserError(f"line {line} of {path} has set {name!r}. Accepted: train, val, test, or an empty cell.")
        named[part].add(str(row["image"]))
    return named
