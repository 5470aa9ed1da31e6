"""Read the color of each class, for label maps in color."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transxnet.data.formats.class_names import is_plain
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_text

FILES = ("labelmap.txt", "class_dict.csv", "classes.csv", "colors.csv", "label_colors.csv")
"""Files with the colors of the classes, in the order in which they are tried."""

_COLUMNS = (("name", "class", "label", "class_name"), ("r", "red"), ("g", "green"), ("b", "blue"))

_Row = tuple[str, list[int]]


@dataclass(frozen=True)
class ColorTable:
    """Names and colors of K classes.

    Attributes:
        file: the file that they were read from.
        names: K unique names.
        colors: (K, 3) uint8, RGB.
    """

    file: Path
    names: list[str]
    colors: np.ndarray


def read_color_table(*folders: Path) -> ColorTable | None:
    """Read the first of :data:`FILES` found in one of the folders; None if no folder has one.

    ``labelmap.txt`` is CVAT's, with lines ``name:r,g,b:parts:actions``; the CSV files have columns name, r, g and b, as
    CamVid's ``class_dict.csv``. A CSV file without colors is no color table.

    Raises:
        UserError: the file cannot be read, or names or colors are missing or not unique.
    """
    for path in (folder / name for folder in folders for name in FILES):
        if path.is_file() and (table := _read(path)) is not None:
            return table
    return None


def _read(path: Path) -> ColorTable | None:
    try:
        lines = read_text(path).splitlines()
        rows = _labelmap_rows(lines) if path.suffix == ".txt" else _csv_rows(lines)
        if rows is None:
            return None
        if not rows:
            raise ValueError("it names no classes")
        names, colors = zip(*rows, strict=True)
        for values, kind in ((names, "name"), (list(map(tuple, colors)), "color")):
            if twice := next((value for value in values if values.count(value) > 1), None):
                raise ValueError(f"{kind} {twice!r} occurs more than once")
        return ColorTable(path, list(names), np.array(colors, np.uint8).reshape(-1, 3))
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"cannot read the class colors from {path}: {error}. Accepted: lines name:r,g,b:: or a CSV file with "
            "columns name, r, g and b, with unique names and colors from 0 to 255."
        ) from error


def _labelmap_rows(lines: Iterable[str]) -> list[_Row]:
    rows = (line.split(":") for line in lines if line.strip() and not line.startswith("#"))
    return [_row(name, (color[0] if color else "").split(",")) for name, *color in rows]


def _csv_rows(lines: list[str]) -> list[_Row] | None:
    """The rows of a CSV file; None if it has no columns of colors."""
    delimiter = ";" if ";" in (lines or [""])[0] else ","
    table = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    header = [column.strip().casefold() for column in next(table, [])]
    columns = [next((header.index(name) for name in names if name in header), -1) for names in _COLUMNS]
    if min(columns) < 0:
        return None
    return list(_cells(table, columns))


def _cells(table: Iterable[list[str]], columns: list[int]) -> Iterator[_Row]:
    for row in table:
        if any(row):
            name, *color = (row[column] if column < len(row) else "" for column in columns)
            yield _row(name, color)


def _row(name: str, color: list[str]) -> _Row:
    name = name.strip()
    if not name or not is_plain(name):
        raise ValueError(f"{name!r:.40} is not a class name")
    values = [int(value) for value in color]
    if len(values) != 3 or not all(0 <= value <= 255 for value in values):
        raise ValueError(f"{','.join(color)!r:.40} is not the color of {name!r:.40}")
    return name, values
