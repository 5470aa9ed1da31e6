"""Small tables for notebooks: HTML, and pandas data frames."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from transxnet.utils.optional_packages import require_package

MAX_ROWS = 20
"""Rows of an HTML table; further ones are only counted."""


def html_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an HTML table; all text is escaped, and numbers are aligned at the right.

    Args:
        title: caption of the table.
        columns: names of the columns.
        rows: a value for each column; floats are shown with four significant digits.
    """
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:MAX_ROWS])
    if len(rows) > MAX_ROWS:
        body += f'<tr><td colspan="{len(columns)}">and {len(rows) - MAX_ROWS:,} more</td></tr>'
    caption = f'<caption style="text-align: left">{escape(title)}</caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if not isinstance(value, (int, float)):
        return f"<td>{escape(str(value))}</td>"
    return f'<td style="text-align: right">{value if isinstance(value, int) else f"{value:.4g}"}</td>'


def data_frame(content: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    """Return a pandas DataFrame of columns by name, or of rows.

    Raises:
        UserError: pandas is not installed.
    """
    require_package("pandas", "pandas", "to_pandas()")
    import pandas as pd

    return pd.DataFrame(content)
