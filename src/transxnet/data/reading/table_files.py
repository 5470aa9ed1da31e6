"""Read tables row by row: CSV, TSV, JSON Lines and Parquet."""

import codecs
import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from transxnet.utils.errors import UserError
from transxnet.utils.optional_packages import require_package
from transxnet.utils.text_files import open_regular

TABLE_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
"""Extensions of the files that :func:`open_table` reads."""

HEAD = 1000
"""Number of rows from which the contents of columns are recognized."""

Cell = str | tuple[str, ...]
"""Text without surrounding spaces, "" if the cell is empty; or a list of texts (JSON Lines and Parquet)."""

Row = tuple[int, Sequence[Cell] | None]
"""Number of the line, or of the row in Parquet, and its cells; None if their number differs from the header's."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DELIMITERS = (",", ";", "\t")


class Table(ABC):
    """A table in a file.

    Args:
        path: the file.

    Attributes:
        path: the file.
        columns: names of the columns.

    Raises:
        UserError: the file cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        with self._reading():
            self.columns = self._read_columns()

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """Iterate over the cells of these columns, row by row.

        Raises:
            UserError: the file cannot be read.
        """
        with self._reading():
            yield from self._read_rows(columns)

    def head(self, columns: Sequence[str]) -> list[Sequence[Cell]]:
        """Return the cells of these columns in the first rows.

        Raises:
            UserError: the file cannot be read.
        """
        return [cells for _, cells in islice(self.rows(columns), HEAD) if cells is not None]

    @abstractmethod
    def _read_columns(self) -> list[str]: ...

    @abstractmethod
    def _read_rows(self, columns: Sequence[str]) -> Iterator[Row]: ...

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, csv.Error, RecursionError) as error:  # pyarrow's errors are ValueError or OSError
            what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise UserError(
                f"cannot read {self.path}: {what.rstrip('.')}. Accepted: CSV, TSV or JSON Lines in UTF-8 or UTF-16, "
                "and Parquet."
            ) from error


def is_table(path: str | Path) -> bool:
    """Whether a file has the extension of a table."""
    return os.path.splitext(path)[1].lower() in TABLE_EXTENSIONS


def open_table(path: Path) -> Table:
    """Open a table by its extension, one of :data:`TABLE_EXTENSIONS`.

    Raises:
        UserError: the file cannot be read, or pyarrow is not installed.
    """
    extension = path.suffix.lower()
    if extension == ".parquet":
        return _ParquetTable(path)
    return _JsonLines(path) if extension in (".jsonl", ".ndjson") else _DelimitedText(path)


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    with open_regular(path) as file:
        encoding = "utf-16" if file.read(2) in _UTF16 else "utf-8-sig"
        file.seek(0)
        yield io.TextIOWrapper(file, encoding, newline="")


class _DelimitedText(Table):
    """CSV with commas, semicolons or tabs, whichever is most frequent in the header; TSV."""

    def _read_columns(self) -> list[str]:
        with _open_text(self.path) as file:
            header = file.readline(1 << 20)
        if "\0" in header:
            raise ValueError("it contains null bytes; if it is UTF-16, save it with a byte order mark or as UTF-8")
        self.delimiter = "\t" if self.path.suffix.lower() == ".tsv" else max(_DELIMITERS, key=header.count)
        with _open_text(self.path) as file:
            return [name.strip() for name in next(self._reader(file), [])]

    def _reader(self, file: io.TextIOWrapper) -> Any:
        return csv.reader(file, delimiter=self.delimiter, strict=True)

    def _read_rows(self, columns: Sequence[str]) -> Iterator[Row]:
        width = len(self.columns)
        positions = [self.columns.index(name) for name in columns]
        with _open_text(self.path) as file:
            reader = self._reader(file)
            next(reader, None)
            for row in reader:
                if len(row) == width or (len(row) > width and not any(row[width:])):
                    yield reader.line_num, [row[i].strip() for i in positions]
                elif any(row):
                    yield reader.line_num, None


class _JsonLines(Table):
    """One JSON object per line."""

    def _read_columns(self) -> list[str]:
        return list(dict.fromkeys(name for _, row in islice(self._objects(), HEAD) for name in row))

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        with _open_text(self.path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number} is not a JSON object")
                    yield number, row

    def _read_rows(self, columns: Sequence[str]) -> Iterator[Row]:
        for number, row in self._objects():
            yield number, [_cell(row.get(name)) for name in columns]


class _ParquetTable(Table):
    """Parquet, read in batches of rows."""

    def _read_columns(self) -> list[str]:
        require_package("pyarrow", "transxnet[parquet]", "Reading Parquet")
        from pyarrow.parquet import ParquetFile

        with open_regular(self.path) as file:
            return ParquetFile(file).schema_arrow.names

    def _read_rows(self, columns: Sequence[str]) -> Iterator[Row]:
        from pyarrow.parquet import ParquetFile

        cells_of, number = itemgetter(*columns), 0
        with open_regular(self.path) as file:
            for batch in ParquetFile(file).iter_batches(HEAD, columns=list(columns)):
                for row in batch.to_pylist():
                    number += 1
                    cells = (cells_of(row),) if len(columns) == 1 else cells_of(row)
                    yield number, [_cell(cell) for cell in cells]


def _cell(value: Any) -> Cell:
    return tuple(map(_text, value)) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN, as pandas writes an empty cell of numbers
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if not isinstance(value, (str, int, float, Decimal)):
        raise ValueError(f"a cell contains {type(value).__name__}; accepted: text, numbers, and lists of these")
    text = str(value).strip()
    text.encode()  # raises ValueError for lone surrogates, which JSON can contain
    return text
