"""Charts as inline SVG in the page's own colours, in light and in dark."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

LONG_RUN = 60  # epochs; dashes would drown in the noise of longer lines

# Matplotlib draws with these stand-ins; the page's style sheet says what they look like, in light and in dark.
_COLOURS = {
    "ink": ("#010101", "currentColor"),
    "paper": ("#010102", "var(--paper)"),
    "line": ("#010103", "var(--line)"),
    "muted": ("#010104", "var(--muted)"),
    "blue": ("#010105", "var(--blue)"),
    "orange": ("#010106", "var(--orange)"),
    "green": ("#010107", "var(--green)"),
}
DASHES: dict[str, tuple[float, ...]] = {"solid": (), "dashed": (6, 2), "dotted": (1.5, 2)}


@dataclass(frozen=True)
class Line:
    """One line of a chart, and its key.

    Attributes:
        column: the history's column that it shows; nothing for a line of another origin.
        label: the key's text.
        colour: name of a colour of the page.
        dash: name of an entry of ``DASHES``.
    """

    column: str
    label: str
    colour: str
    dash: str = "solid"


@dataclass(frozen=True)
class Plot:
    """What to plot over the epochs.

    Attributes:
        title: of the chart; its first word, in small letters, names the chart within the page.
        lines: of which those are left out that were not recorded; the best point of the first is marked.
        level: (label, value) of a horizontal line to compare with.
        in_percent: whether the values are shares of 1.
    """

    title: str
    lines: tuple[Line, ...]
    level: tuple[str, float] | None = None
    in_percent: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart as the page shows it.

    Attributes:
        title: of the chart.
        svg: the chart.
        keys: lines to explain.
        colour: name of the best point's colour.
        best: what the ring marks; nothing if there is none.
    """

    title: str
    svg: Markup
    keys: tuple[Line, ...]
    colour: str = ""
    best: str = ""


def curves(history: Sequence[Mapping[str, float]], plots: Sequence[Plot]) -> list[Chart]:
    """The plots over the epochs; what was not recorded is left out."""
    epochs = column(history, "epoch")
    epochs = np.where(np.isfinite(epochs), epochs, np.arange(1, len(epochs) + 1))
    charts = []
    for plot in plots:
        columns = {line: column(history, line.column) for line in plot.lines}
        columns = {line: values for line, values in columns.items() if np.isfinite(values).any()}
        if columns:
            with page_look():
                charts.append(_curve(plot, epochs, columns))
    return charts


def column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """(epochs,) values, NaN where missing or infinite."""
    values = np.array([math.nan if row.get(name) is None else row[name] for row in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _curve(plot: Plot, epochs: np.ndarray, columns: Mapping[Line, np.ndarray]) -> Chart:
    """The lines, with a ring around the best point of the first."""
    figure, axes = chart_axes()
    long = len(epochs) > LONG_RUN
    if long:
        columns = {replace(line, dash="solid"): values for line, values in columns.items()}
    for order, (line, values) in enumerate(columns.items()):
        known = np.isfinite(values)
        look = line_style(line.colour, line.dash, 1.2 if long else 1.8)
        axes.plot(epochs[known], values[known], zorder=3 - order / 10, marker="o" if known.sum() == 1 else "", **look)
    first, values = next(iter(columns.items()))
    lowest = "loss" in first.column
    best = int(np.nanargmin(values) if lowest else np.nanargmax(values))
    (ring,) = axes.plot(epochs[best], values[best], "o", markersize=8, color=ink("paper"), zorder=4, clip_on=False)
    ring.set(markeredgecolor=ink(first.colour), markeredgewidth=2)
    keys = tuple(columns) if len(columns) > 1 or plot.level is not None else ()
    if plot.level is not None:
        axes.axhline(plot.level[1], zorder=1, **line_style("muted", "dashed", 1))
        keys += (Line("", plot.level[0], "muted", "dashed"),)
    if plot.in_percent:
        percent_axis(axes.yaxis)
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if epochs.min() == epochs.max():
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    if first.column == "lr":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    which = f"lowest {first.label} loss" if lowest else f"highest {first.label}"
    value = f"{100 * values[best]:.1f}%" if plot.in_percent else f"{values[best]:.3g}"
    note = f"{which} {value}, epoch {epochs[best]:g}"
    svg = figure_svg(figure, plot.title.split()[0].lower(), plot.title)
    return Chart(plot.title, svg, keys, first.colour, note)


def page_look() -> AbstractContextManager[None]:
    """The charts' style, apart from what the user's own matplotlib settings say."""
    text, line = ink("ink"), ink("line")
    settings = {
        "svg.fonttype": "none", "svg.hashsalt": "transxnet", "font.size": 11.5, "lines.linewidth": 1.8,
        "axes.edgecolor": text, "axes.labelcolor": text, "text.color": text, "xtick.color": text, "ytick.color": text,
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": line, "axes.axisbelow": True, "ytick.major.size": 0,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    }  # fmt: skip
    return style.context(["default", settings])


def chart_axes(height: float = 3.1) -> tuple[Figure, Axes]:
    """Axes 360 units wide, as wide as a telephone, so that their text is never much smaller than the page's."""
    figure = Figure(figsize=(5, height), layout="constrained")
    return figure, figure.add_subplot()


def ink(name: str) -> str:
    """What stands for a colour of the page while matplotlib draws."""
    return _COLOURS[name][0]


def line_style(colour: str, dash: str, width: float) -> dict[str, Any]:
    """How ``Axes.plot`` draws a line: a colour of the page, an entry of ``DASHES``, a width in points."""
    dashes: dict[str, Any] = {"dashes": DASHES[dash]} if DASHES[dash] else {}
    return {"color": ink(colour), "linewidth": width, **dashes}


def percent_axis(axis: Axis) -> None:
    """Write an axis of shares in percent, with decimals where whole ones would all be the same."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(PercentFormatter(1, decimals=0 if high - low >= 0.05 else None))


def figure_svg(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an inline element whose colours are the page's and whose ids are its own.

    Texts of users do not belong in it: matplotlib would take what stands between dollar signs for a formula.

    Args:
        figure: drawn under :func:`page_look`, in colours of :func:`ink`.
        name: tells the figure from the others of the page.
        label: what a screen reader says.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', text)
    assert view_box is not None
    text = re.sub(r"<svg[^>]*>", f'<svg {view_box[0]} role="img" aria-label="{label}">', text, count=1)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    for drawn, shown in _COLOURS.values():
        text = text.replace(drawn, shown)
    return Markup(text)
