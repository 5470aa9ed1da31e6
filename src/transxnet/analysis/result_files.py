"""The files that an analysis writes: a figure, a table as CSV, and a JSON record."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from transxnet.utils.environment import collect_environment
from transxnet.utils.files import write_atomic

DPI = 160


def write_results(
    folder: Path, names: Sequence[str], figure: Figure, rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any]
) -> list[Path]:
    """Write a figure, a table and a JSON record.

    Args:
        folder: created if it does not exist.
        names: file names of the PNG, the CSV and the JSON file.
        figure: the figure.
        rows: rows of the table, with the same keys.
        record: content of the JSON file; the environment is added.

    Returns:
        The paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image, table, document = (folder / name for name in names)
    write_figure(figure, image)
    write_table(table, list(rows[0]), [list(row.values()) for row in rows])
    write_atomic(document, json.dumps({**record, "environment": collect_environment()}, indent=2) + "\n")
    return [image, table, document]


def write_figure(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically."""
    options: dict[str, Any] = {"dpi": DPI, "facecolor": "white", "bbox_inches": "tight", "pad_inches": 0.08}
    write_atomic(path, lambda temporary: figure.savefig(temporary, format="png", **options))


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomic(path, text.getvalue())
