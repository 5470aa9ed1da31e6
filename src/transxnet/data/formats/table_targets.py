"""Recognize what the labels of a table are - classes, several labels or numbers - and encode them."""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from transxnet.data.datasets.classification_dataset import TargetKind
from transxnet.data.formats.class_alignment import class_order
from transxnet.data.formats.class_names import is_plain
from transxnet.data.reading.table_columns import BINARY, plain_number
from transxnet.data.reading.table_files import Cell
from transxnet.utils.errors import UserError, advice
from transxnet.utils.quantities import format_count

SEPARATORS = ("|", ";", ",")
"""Separators of several labels in a cell, in the order in which they are tried."""

FEW_INTEGERS = 10
"""Integers are classes if there are at most this many different ones, or one per this many rows; else numbers."""

MOST_ENTRIES = 1 << 30
"""Largest product of rows and labels in multi-label data: 4 GiB."""

LARGEST = float(np.finfo(np.float32).max)
"""Largest absolute value to regress."""


class TableColumn:
    """A column of a table, which stores each different cell once.

    Args:
        name: name of the column.
    """

    def __init__(self, name: str):
        self.name = name
        self._numbers: dict[Cell, int] = {}
        self._codes = array("i")

    def append(self, cell: Cell) -> None:
        """Add the cell of the next row."""
        self._codes.append(self._numbers.setdefault(cell, len(self._numbers)))

    @property
    def cells(self) -> list[Cell]:
        """The different cells."""
        return list(self._numbers)

    @property
    def codes(self) -> np.ndarray:
        """(N,) index in :attr:`cells` of each row's cell."""
        return np.frombuffer(self._codes, np.int32)

    def texts(self) -> list[str]:
        """Return the different cells as text.

        Raises:
            UserError: a cell is a list.
        """
        for cell in self._numbers:
            if not isinstance(cell, str):
                raise UserError(f"column {self.name!r} contains a list, {_listed(cell)}. Accepted: text and numbers.")
        return [cell for cell in self._numbers if isinstance(cell, str)]


@dataclass(frozen=True)
class TableTargets:
    """The labels of all rows of a table.

    Attributes:
        labels: labels as in :class:`~transxnet.data.datasets.classification_dataset.ClassificationSet`.
        class_names: names of the classes, or of the number.
        known: (N,) whether the row has a label.
        note: which targets were recognized, and why.
        add_up: whether several rows of an image add up to its labels.
    """

    labels: np.ndarray
    class_names: list[str]
    known: np.ndarray
    note: str
    add_up: bool = False


def read_targets(columns: Sequence[TableColumn], targets: TargetKind | None = None) -> TableTargets:
    """Recognize and encode the labels of a table.

    Args:
        columns: the label column, or one column per class.
        targets: the kind of the labels; by default recognized from the cells.

    Raises:
        UserError: a label does not fit the targets.
    """
    if len(columns) > 1:
        return _read_class_columns(columns, targets)
    column = columns[0]
    separator = _separator(column)
    found, why = _recognize(column, separator)
    if targets is None:
        targets = found
        change = "" if found == "classes" and not separator else advice("; --targets overrides this")
        note = f"targets: {found}, because {why}{change}"
    else:
        note = f"targets: {targets}, as given"
    encode = {"classes": _encode_classes, "multilabel": _encode_several, "regression": _encode_numbers}[targets]
    return encode(column, note)


def _recognize(column: TableColumn, separator: str | None) -> tuple[TargetKind, str]:
    """Return the targets of a label column, and the reason."""
    where, cells = f"column {column.name!r}", [cell for cell in column.cells if cell]
    if not all(isinstance(cell, str) for cell in cells):
        return "multilabel", f"{where} contains lists of labels"
    if separator is not None:
        return "multilabel", f"{where} contains several labels separated by {separator!r}"
    numbers = [_number(str(cell)) for cell in cells]
    if not cells or None in numbers:
        return "classes", f"{where} contains names"
    if not all(number is not None and number.is_integer() for number in numbers):
        return "regression", f"{where} contains numbers with decimals"
    rows = len(column.codes)
    counts = f"{where} contains {len(cells)} different integers in {rows} rows"
    return ("classes" if len(cells) <= max(FEW_INTEGERS, rows // FEW_INTEGERS) else "regression"), counts


def _separator(column: TableColumn) -> str | None:
    """Return the separator of several labels, or None.

    A comma may be part of a name, so a label must occur in two different cells, or be a cell of its own.
    """
    cells = [cell for cell in column.cells if isinstance(cell, str)]
    for separator in SEPARATORS:
        seen: set[str] = set()
        if any(separator in cell for cell in cells):
            for cell in cells:
                labels = set(_split(cell, separator))
                if labels & seen:
                    return separator
                seen |= labels
    return None


def _split(cell: Cell, separator: str | None) -> Sequence[str]:
    parts = cell.split(separator) if isinstance(cell, str) and separator else [cell] if isinstance(cell, str) else cell
    return [part.strip() for part in parts if part.strip()]


def _encode_classes(column: TableColumn, note: str) -> TableTargets:
    cells = [_only_label(column, cell) for cell in column.cells]
    if all(_is_integer(cell) for cell in cells if cell):
        cells = [plain_number(cell) for cell in cells]
    names = class_order(sorted({cell for cell in cells if cell}))
    _check_names(names)
    index = {name: i for i, name in enumerate(names)}
    labels = np.array([index.get(cell, -1) for cell in cells], np.int64)[column.codes]
    return TableTargets(labels, names, labels >= 0, note)


def _only_label(column: TableColumn, cell: Cell) -> str:
    labels = [cell] if isinstance(cell, str) else cell
    if len(labels) > 1:
        raise UserError(
            f"column {column.name!r} contains several labels, {_listed(labels)}. Use --targets multilabel, or write "
            "one label per image."
        )
    return labels[0] if labels else ""


def _is_integer(cell: str) -> bool:
    number = _number(cell)
    return number is not None and number.is_integer()


def _encode_several(column: TableColumn, note: str) -> TableTargets:
    separator = _separator(column) or next((s for s in SEPARATORS if any(s in cell for cell in column.cells)), None)
    several = [_split(cell, separator) for cell in column.cells]
    names = class_order(sorted(set(chain.from_iterable(several))))
    _check_names(names)
    if len(column.codes) * len(names) > MOST_ENTRIES:
        raise UserError(
            f"column {column.name!r} has {len(names)} different labels in {len(column.codes)} rows, too many for "
            "several labels per image. Check that it is the label column, or use --targets classes."
        )
    index = {name: i for i, name in enumerate(names)}
    labels = np.zeros((len(several), len(names)), np.float32)
    for row, words in zip(labels, several, strict=True):
        row[[index[word] for word in words]] = 1
    labels = labels[column.codes]
    empty = int((labels.sum(1) == 0).sum())
    if empty:
        note += f"; {format_count(empty, 'row')} with none of the labels"
    return TableTargets(labels, names, np.ones(len(labels), bool), note, add_up=True)


def _encode_numbers(column: TableColumn, note: str) -> TableTargets:
    texts = column.texts()
    numbers = [math.nan if not text else _number(text) for text in texts]
    if None in numbers:
        wrong = texts[numbers.index(None)]
        raise UserError(
            f"column {column.name!r} contains {wrong!r:.60}, which is not a finite number. Correct it, or use "
            "--targets classes."
        )
    labels = np.array(numbers, np.float32)[column.codes]
    return TableTargets(labels, [column.name], ~np.isnan(labels), note)


def _number(text: str) -> float | None:
    """Return a finite number that float32 can hold, or None."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= LARGEST and "_" not in text else None


def _read_class_columns(columns: Sequence[TableColumn], targets: TargetKind | None) -> TableTargets:
    if targets == "regression":
        raise UserError(f"regression has one number per image, got {len(columns)} label columns. Pass --label-column.")
    names = [column.name for column in columns]
    _check_names(names)
    labels = np.empty((len(columns[0].codes), len(columns)), np.float32)
    for number, column in enumerate(columns):
        labels[:, number] = np.array(list(_binary(column)), np.float32)[column.codes]
    known = np.asarray(~np.isnan(labels).all(1))
    one_each = bool((labels[known].sum(1) == 1).all())
    if targets == "classes" and not one_each:
        row = int(np.flatnonzero(known & ~(np.nansum(labels, 1) == 1))[0])
        raise UserError(
            f"data row {row + 1} has {int(np.nansum(labels[row]))} of {len(names)} classes. Use --targets multilabel, "
            "or write 1 in one column and 0 in the others."
        )
    if targets == "multilabel" or (targets is None and not one_each):
        why = (
            "as given" if targets else "because there is one column per class, and images have several or unknown ones"
        )
        return TableTargets(labels, names, known, f"targets: multilabel, {why}")
    why = "as given" if targets else "because each image has 1 in one class column; --targets multilabel overrides this"
    return TableTargets(np.where(known, labels.argmax(1), -1), names, known, f"targets: classes, {advice(why)}")


def _binary(column: TableColumn) -> Iterator[float]:
    for text in column.texts():
        spelled = plain_number(text)
        if spelled not in BINARY:
            raise UserError(
                f"column {column.name!r} contains {text!r:.60}. Accepted in a column for one class: 0, 1, and empty or "
                "-1 for unknown."
            )
        value = BINARY[spelled]
        yield math.nan if value is None else float(value)


def _check_names(names: Sequence[str]) -> None:
    broken = next((name for name in names if not is_plain(name)), None)
    if broken is not None:
        raise UserError(f"label {broken!r:.60} contains control characters or line breaks. Rename it.")


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(f"{label!r:.60}" for label in labels[:5])
