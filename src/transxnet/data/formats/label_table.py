"""Labels in a table - CSV, TSV, JSON Lines or Parquet - with the paths of the images."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet, TargetKind
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.parts import TEST_NAMES, TRAIN_NAMES, VAL_NAMES, Parts, part_of
from transxnet.data.formats.table_targets import TableColumn, TableTargets, read_targets
from transxnet.data.reading.packed_strings import PackedStrings, PathsBelow
from transxnet.data.reading.table_columns import Columns, find_columns
from transxnet.data.reading.table_files import TABLE_EXTENSIONS, Table, is_table, open_table
from transxnet.data.reading.table_paths import ImageFinder, image_folder, path_text
from transxnet.utils.errors import UserError

ACCEPTED = (
    f"a table ({', '.join(TABLE_EXTENSIONS)}) with a column of paths and a column of labels, and optionally the "
    "columns split, group and weight; or a folder that contains labels.csv, or another such table named labels"
)


@dataclass(frozen=True)
class TableOptions:
    """How to read a label table; everything left at None is recognized.

    Attributes:
        path_column: column of the images' paths.
        label_column: column of the labels, or several, separated by commas, with one class each.
        split_column: column of the set (train, val or test) of each image; "none" for none, as for the next two.
        group_column: column of groups that are not split.
        weight_column: column of the labels' confidence.
        image_folder: folder that the paths are relative to.
    """

    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    image_folder: str | None = None


def find_label_table(root: Path) -> Parts:
    """Find the table: the root itself if it is a file, else ``labels.csv`` or another table of that name in the folder.

    The table holds all sets, so it stands for the training set.

    Raises:
        UserError: there are several.
    """
    if root.is_file():
        return Parts(root if is_table(root) else None)
    tables = [file for file in (root / f"labels{extension}" for extension in TABLE_EXTENSIONS) if file.is_file()]
    if len(tables) > 1:
        raise UserError(
            f"{root} contains {' and '.join(table.name for table in tables)}. Pass one of them: {tables[0]}."
        )
    return Parts(*tables)


def read_label_table(
    file: Path, options: TableOptions, targets: TargetKind | None, findings: Findings, minimum: int = 1
) -> tuple[Parts, list[str]]:
    """Read the images and labels of a table.

    Args:
        file: the table.
        options: its columns.
        targets: the kind of the labels; None for the one that is recognized.
        findings: receives the problems of single rows. They are refused here if there are too many.
        minimum: minimum number of classes.

    Returns:
        The sets of the split column, with the same classes; all images as the training set if there is no such column.
        And notes for the user: the columns, and the kind of the labels.

    Raises:
        UserError: the table cannot be read, columns are missing, or too many rows cannot be used.
    """
    table = open_table(file)
    columns = find_columns(
        table,
        path=options.path_column,
        label=options.label_column,
        split=options.split_column,
        group=options.group_column,
        weight=options.weight_column,
    )
    rows = _read_rows(table, columns, findings)
    if not len(rows.names):
        raise UserError(f"{file} contains no rows. Accepted: {ACCEPTED}.")
    read = read_targets(rows.labels, targets)
    if not read.known.any():
        raise UserError(f"no row of {file} has a label in {_listed(columns.labels)}. Pass another --label-column.")
    folder = image_folder(file, rows.names, options.image_folder)
    images, kept = _labeled_images(file, rows, read, folder, findings)
    findings.refuse()
    if images.targets == "classes" and len(read.class_names) < minimum:
        raise UserError(
            f"{file} contains one class, {read.class_names[0]!r}; a classifier needs at least {minimum}. Pass "
            "another --label-column, or add images of other classes."
        )
    parts = Parts(images) if rows.split is None else _split(file, images, rows.split, rows.split.codes[kept])
    if rows.group is not None:
        _check_groups(parts, rows.group)
    return parts, [str(columns), f"paths are relative to {folder}", read.note, *_absent_classes(parts.train)]


@dataclass(frozen=True)
class _Rows:
    """The used cells of all rows."""

    names: PackedStrings
    lines: array
    labels: list[TableColumn]
    split: TableColumn | None
    group: TableColumn | None
    weight: TableColumn | None


def _read_rows(table: Table, columns: Columns, findings: Findings) -> _Rows:
    lines = array("q")
    labels = [TableColumn(name) for name in columns.labels]
    optional = [None if name is None else TableColumn(name) for name in (columns.split, columns.group, columns.weight)]
    stored = [*labels, *(column for column in optional if column is not None)]

    def names() -> Iterator[str]:
        for number, cells in table.rows([columns.path, *(column.name for column in stored)]):
            findings.images += 1
            if cells is None:
                findings.add(Problem.ROW_RAGGED, f"{table.path.name}, line {number}")
                continue
            for column, cell in zip(stored, cells[1:], strict=True):
                column.append(cell)
            lines.append(number)
            yield path_text(table.path, cells[0])

    return _Rows(PackedStrings(names()), lines, labels, *optional)


def _labeled_images(
    file: Path, rows: _Rows, read: TableTargets, folder: str, findings: Findings
) -> tuple[ClassificationSet, np.ndarray]:
    """Return the images that exist and have a label, each once, and the position of the row of each."""
    names, kept = _find_images(file, rows, read.known, folder, findings)
    labels, first = _merge_rows(names, read.labels[kept], read.add_up, findings)
    names, kept = PackedStrings(names[i] for i in first) if len(first) < len(names) else names, kept[first]
    weights = None if rows.weight is None else _weights(rows.weight)[kept]
    groups = None if rows.group is None else _groups(rows.group)[kept]
    storage = FileImages(PathsBelow(folder, names))
    return ClassificationSet(storage, names, read.class_names, labels[first], weights, groups=groups), kept


def _find_images(
    file: Path, rows: _Rows, known: np.ndarray, folder: str, findings: Findings
) -> tuple[PackedStrings, np.ndarray]:
    """Return the paths below the folder of the rows that have an image and a label, and the positions of these rows."""
    finder, kept, missing = ImageFinder(folder), array("q"), 0

    def found() -> Iterator[str]:
        nonlocal missing
        for row, path in enumerate(rows.names):
            name = finder.find(path)
            if name is not None and known[row]:
                kept.append(row)
                yield name
                continue
            missing += name is None
            problem = Problem.IMAGE_MISSING if name is None else Problem.LABEL_EMPTY
            findings.add(problem, f"{path!r:.200} in line {rows.lines[row]}")

    names = PackedStrings(found())
    if missing == len(rows.names):
        raise UserError(
            f"none of the {missing} images of {file} exists. Paths are relative to {folder}; the first is "
            f"{rows.names[0]!r:.200}. Pass --image-folder or another --path-column."
        )
    if not len(names):
        raise UserError(f"no row of {file} has both an image and a label. Add labels, or pass another --label-column.")
    return names, np.frombuffer(kept, np.int64)


def _merge_rows(
    names: Sequence[str], labels: np.ndarray, add_up: bool, findings: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """Merge rows of one image: return the labels, and the positions of the first row of each image, ascending."""
    hashes = np.fromiter(map(hash, names), np.int64, len(names))
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[group] != np.arange(len(names)))
    if add_up and len(repeated):
        labels = labels.copy()
        np.maximum.at(labels, first[group[repeated]], labels[repeated])
    elif len(repeated):
        for row in repeated.tolist():
            same = np.array_equal(labels[row], labels[first[group[row]]], equal_nan=labels.dtype.kind == "f")
            findings.add(Problem.ROW_REPEATED if same else Problem.LABELS_DIFFER, names[row])
    return labels, np.sort(first)


def _weights(column: TableColumn) -> np.ndarray:
    """Return the weight of each row; 1 for empty cells."""
    texts = column.texts()
    try:
        weights = np.array([float(text or 1) for text in texts])
    except ValueError:
        weights = np.full(len(texts), np.nan)
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        raise UserError(
            f"column {column.name!r} must contain numbers of at least 0, got {_listed(texts)}. Correct it, or pass "
            "--weight-column none."
        )
    return weights[column.codes]


def _groups(column: TableColumn) -> np.ndarray:
    """Return the group number of each row. A row without a group is a group of its own."""
    texts = column.texts()
    empty = texts.index("") if "" in texts else -1
    return np.where(column.codes == empty, len(texts) + np.arange(len(column.codes)), column.codes)


def _split(file: Path, images: ClassificationSet, column: TableColumn, codes: np.ndarray) -> Parts:
    values = column.texts()
    names = [part_of(value) for value in values]
    unknown = [value for value, name in zip(values, names, strict=True) if name is None]
    if unknown:
        raise UserError(
            f"column {column.name!r} of {file} contains {_listed(unknown)}. Accepted: "
            f"{', '.join((*TRAIN_NAMES, *VAL_NAMES, *TEST_NAMES))}. Rename the values, or pass --split-column none."
        )
    of_row = np.array(names)[codes]
    positions = {part: np.flatnonzero(of_row == part) for part in Parts._fields}
    return Parts(*(images.subset(rows) if len(rows) else None for rows in positions.values()))


def _check_groups(parts: Parts, column: TableColumn) -> None:
    """Raise UserError if a group is in two sets."""
    groups = {part: set(images.own_groups.tolist()) for part, images in parts._asdict().items() if images is not None}
    for (one, first), (other, second) in combinations(groups.items(), 2):
        if common := first & second:
            names = _listed([column.texts()[group] for group in sorted(common)])
            raise UserError(
                f"{len(common)} groups of column {column.name!r} are in both the {one} and the {other} set: {names}. "
                "Correct the split column, or pass --group-column none."
            )


def _absent_classes(images: ClassificationSet | None) -> list[str]:
    """Return a note on classes without training images."""
    if images is None or images.targets == "regression":
        return []
    absent = np.setdiff1d(np.arange(len(images.class_names)), images.present_classes)
    return [f"no training image has class {_listed([images.class_names[c] for c in absent])}"] if len(absent) else []


def _listed(values: Sequence[str], most: int = 5) -> str:
    return ", ".join(f"{value!r:.60}" for value in values[:most]) + (" and more" if len(values) > most else "")
