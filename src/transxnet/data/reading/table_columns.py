"""Recognize the columns of a table of images by their names."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.data.reading.table_files import Table
from transxnet.utils.errors import UserError, nearest

NAMES = {
    "path": (
        "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_file",
        "image_filename", "image_name", "img", "img_path", "image_index", "image_id", "img_id", "id",
    ),
    "label": (
        "label", "labels", "class", "classes", "class_name", "category", "target", "tags", "finding_labels", "class_id",
    ),
    "split": ("split", "subset", "partition", "set"),
    "group": (
        "group", "group_id", "patient", "patient_id", "subject", "subject_id", "case", "case_id", "site", "site_id",
        "video", "video_id",
    ),
    "weight": ("weight", "confidence"),
}  # fmt: skip
"""Names of each column, the first found is used. Upper and lower case, spaces, hyphens and underscores are equal."""

NO_COLUMN = "none"
"""Value of an option for a column that is not to be used, although its name is recognized."""

BINARY = {"": None, "-1": None, "0": False, "1": True, "false": False, "true": True}
"""Cells of a column for one class, in lower case and without ``.0``; None is unknown. -1 is CheXpert's "uncertain"."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table of images.

    Attributes:
        path: column of the images' paths.
        labels: column of the labels, or one column per class.
        split: column of the set that each image belongs to, or None.
        group: column of groups that are not split, or None.
        weight: column of the labels' confidence, or None.
    """

    path: str
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    weight: str | None = None

    def __str__(self) -> str:
        labels = self.labels[0] if len(self.labels) == 1 else f"{len(self.labels)} columns, one per class"
        found = {"path": self.path, "label": labels, "split": self.split, "group": self.group, "weight": self.weight}
        return "columns: " + ", ".join(f"{kind}={name}" for kind, name in found.items() if name is not None)


def find_path_column(table: Table, given: str | None = None) -> str:
    """Return the column of the images' paths: the given one, or one of :data:`NAMES`.

    Raises:
        UserError: it is missing.
    """
    path = _find(table, "path", given)
    if path is None:
        raise _missing(table, "path")
    return path


def find_columns(
    table: Table,
    *,
    path: str | None = None,
    label: str | None = None,
    split: str | None = None,
    group: str | None = None,
    weight: str | None = None,
) -> Columns:
    """Find the columns of a table of labeled images.

    Without a label column of a known name, the only other column holds the labels, or all others that contain only 0,
    1 and empty cells are one class each.

    Args:
        table: the table.
        path: the path column, by default recognized, as are the others.
        label: the label column, or several separated by commas, one per class.
        split: the split column; "none" for none, as for the others.
        group: the group column.
        weight: the weight column.

    Raises:
        UserError: the path or the label column, or a given column, is missing.
    """
    path = find_path_column(table, path)
    optional = {
        kind: _find(table, kind, given) for kind, given in (("split", split), ("group", group), ("weight", weight))
    }
    labels = _find_labels(table, label, {path, *optional.values()})
    return Columns(path, labels, **optional)


def _find_labels(table: Table, given: str | None, used: set[str | None]) -> tuple[str, ...]:
    if given is not None and given not in table.columns and "," in given:
        return tuple(_check_given(table, "label", name.strip()) for name in given.split(","))
    label = _find(table, "label", given)
    if label is not None:
        return (label,)
    others = [name for name in table.columns if name not in used and name and not name.startswith("Unnamed:")]
    if len(others) == 1:
        return tuple(others)
    classes = _binary_columns(table, others) if others else ()
    if len(classes) < 2:
        raise _missing(table, "label")
    return classes


def _binary_columns(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of which the first rows contain only the cells of :data:`BINARY`, and not only empty ones."""
    head = [set(cells) for cells in zip(*table.head(names), strict=True)]
    return tuple(
        name
        for name, cells in zip(names, head, strict=True)
        if any(cells) and all(isinstance(cell, str) and plain_number(cell) in BINARY for cell in cells)
    )


def plain_number(cell: str) -> str:
    """Return a cell of :data:`BINARY` or an integer in one spelling: ``1.0`` and ``True`` become ``1`` and ``true``."""
    return re.sub(r"(?<=\d)\.0*$", "", cell.lower())


def _find(table: Table, kind: str, given: str | None) -> str | None:
    if given == NO_COLUMN:
        return None
    if given is not None:
        return _check_given(table, kind, given)
    by_name = {_spelling(name): name for name in reversed(table.columns)}
    return next((_only(table, by_name[name]) for name in NAMES[kind] if name in by_name), None)


def _spelling(name: str) -> str:
    return re.sub(r"[\s\-_]+", "_", name.casefold())


def _check_given(table: Table, kind: str, name: str) -> str:
    if name not in table.columns:
        raise UserError(
            f"cannot read {table.path}: column {name!r} is missing. Columns found: {_listed(table.columns)}."
            f"{nearest(name, table.columns)} Pass another --{kind}-column."
        )
    return _only(table, name)


def _only(table: Table, name: str) -> str:
    if table.columns.count(name) > 1:
        raise UserError(
            f"cannot read {table.path}: {table.columns.count(name)} columns are named {name!r}. Rename all but one."
        )
    return name


def _missing(table: Table, kind: str) -> UserError:
    if any(cell.lower().endswith(tuple(EXTENSIONS)) for cell in table.columns):
        return UserError(
            f"cannot read {table.path}: it has no header, its first line is {_listed(table.columns)}. Add a first line "
            "with the names of the columns, such as path,label."
        )
    if not table.columns:
        return UserError(f"{table.path} is empty. Accepted: a table with columns such as path and label.")
    return UserError(
        f"cannot read {table.path}: column {kind!r} is missing. Columns found: {_listed(table.columns)}. Pass "
        f"--{kind}-column NAME, or rename it to one of: {', '.join(NAMES[kind])}."
    )


def _listed(names: Iterable[str], most: int = 20) -> str:
    names = list(names)
    return ", ".join(f"{name!r:.60}" for name in names[:most]) + (" and more" if len(names) > most else "")
