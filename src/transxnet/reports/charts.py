"""Charts as inline SVG, in the colors of the page's light and dark themes."""

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from transxnet.metrics.calibration import Calibration
from transxnet.reports.formatting import percent

CURVE_POINTS = 200  # of a curve of rates
LONG_RUN = 60  # epochs; longer curves are noisy, and dashes hard to see

# Placeholder colors for matplotlib, later replaced with the colors of the page's style sheet.
_COLORS = {
    "text": ("#010101", "currentColor"),
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
    """One line of a chart, and its legend entry.

    Attributes:
        column: column of the history; empty for any other line.
        label: text of the legend entry.
        color: name of a color of the page.
        dash: key of ``DASHES``.
    """

    column: str
    label: str
    color: str
    dash: str = "solid"


@dataclass(frozen=True)
class Plot:
    """Values to plot over the epochs or steps.

    Attributes:
        title: title of the chart; its first word, in lower case, is its id in the page.
        lines: lines to plot; those without recorded values are skipped.
        baseline: (label, value) of a horizontal line for comparison.
        in_percent: whether the values are fractions of 1.
        x: column of the horizontal axis, "epoch" or "step".
        mark_best: mark the best point of the first line.
    """

    title: str
    lines: tuple[Line, ...]
    baseline: tuple[str, float] | None = None
    in_percent: bool = False
    x: str = "epoch"
    mark_best: bool = True


@dataclass(frozen=True)
class Chart:
    """A chart on the page.

    Attributes:
        title: title of the chart.
        svg: chart as inline SVG.
        legend: lines of the legend.
        color: name of the best point's color.
        best: text for the marked best point; empty if no point is marked.
    """

    title: str
    svg: Markup
    legend: tuple[Line, ...]
    color: str = ""
    best: str = ""


def history_charts(history: Sequence[Mapping[str, float]], plots: Sequence[Plot]) -> list[Chart]:
    """Create the charts over the epochs or steps, without lines that were not recorded."""
    charts = []
    for plot in plots:
        x = history_column(history, plot.x)
        x = np.where(np.isfinite(x), x, np.arange(1, len(x) + 1))
        columns = {line: history_column(history, line.column) for line in plot.lines}
        columns = {line: values for line, values in columns.items() if np.isfinite(values).any()}
        if columns:
            with chart_style():
                charts.append(_curve(plot, x, columns))
    return charts


def history_column(history: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    """Return a column as (epochs,) values, NaN where missing or infinite."""
    values = np.array([math.nan if row.get(name) is None else row[name] for row in history], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _curve(plot: Plot, x: np.ndarray, columns: Mapping[Line, np.ndarray]) -> Chart:
    """Plot the lines, with a marker around the best point of the first if the plot has one."""
    figure, axes = chart_axes()
    long = len(x) > LONG_RUN
    if long:
        columns = {replace(line, dash="solid"): values for line, values in columns.items()}
    for order, (line, values) in enumerate(columns.items()):
        known = np.isfinite(values)
        look = line_style(line.color, line.dash, 1.2 if long else 1.8)
        axes.plot(x[known], values[known], zorder=3 - order / 10, marker="o" if known.sum() == 1 else "", **look)
    first, values = next(iter(columns.items()))
    lowest = "loss" in first.column
    best = int(np.nanargmin(values) if lowest else np.nanargmax(values))
    if plot.mark_best:
        look = {"markersize": 8, "markeredgecolor": css_color(first.color), "markeredgewidth": 2}
        axes.plot(x[best], values[best], "o", color=css_color("paper"), zorder=4, clip_on=False, **look)
    legend = tuple(columns) if len(columns) > 1 or plot.baseline is not None else ()
    if plot.baseline is not None:
        axes.axhline(plot.baseline[1], zorder=1, **line_style("muted", "dashed", 1))
        legend += (Line("", plot.baseline[0], "muted", "dashed"),)
    axes.set_xlabel(plot.x)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    if x.min() == x.max():
        axes.set_xlim(x[0] - 0.5, x[0] + 0.5)
    if first.column == "lr":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if plot.in_percent:
        percent_axis(axes.yaxis)
    else:
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    which = f"lowest {first.label} loss" if lowest else f"highest {first.label}"
    note = f"{which} {_format_value(values[best], plot)}, {plot.x} {x[best]:.0f}"
    rows = zip(x, zip(*columns.values(), strict=True), strict=True)
    hover = [(at, _hover_text(plot, at, dict(zip(columns, row, strict=True)))) for at, row in rows]
    svg = figure_svg(figure, plot.title.split()[0].lower(), plot.title, axes, hover)
    return Chart(plot.title, svg, legend, first.color, note if plot.mark_best else "")


def _format_value(value: float, plot: Plot) -> str:
    return f"{100 * value:.1f}%" if plot.in_percent else f"{value:.3g}"


def _hover_text(plot: Plot, x: float, values: Mapping[Line, float]) -> str:
    known = [f"{line.label} {_format_value(value, plot)}" for line, value in values.items() if np.isfinite(value)]
    return "\n".join([f"{plot.x} {x:.0f}", *known])


def rate_chart(
    title: str,
    labels: tuple[str, str],
    x: np.ndarray,
    y: np.ndarray,
    thresholds: np.ndarray,
    baseline: tuple[list[float], list[float]],
    baseline_line: Line,
    suffix: str = "",
) -> Chart:
    """Plot a curve of two rates with a baseline; its tooltips name the threshold.

    Args:
        title: title of the chart.
        labels: what x and y are.
        x: (T,) rates.
        y: (T,) rates.
        thresholds: (T,) thresholds of the points.
        baseline: x and y of a line for comparison.
        baseline_line: its legend entry.
        suffix: makes the chart's id, the first word of the title, unique in the page.
    """
    with chart_style():
        figure, axes = chart_axes(height=3.9)
        axes.plot(*baseline, **line_style("muted", "dashed", 1))
        axes.plot(x, y, **line_style("blue", "solid", 1.8))
        axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel=labels[0], ylabel=labels[1])
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis)
        shown = np.unique(np.linspace(0, len(x) - 1, CURVE_POINTS).astype(int))
        hover = [
            (x[i], f"threshold {thresholds[i]:.3g}\n{labels[0]} {percent(x[i])}\n{labels[1]} {percent(y[i])}")
            for i in shown.tolist()
        ]
        svg = figure_svg(figure, f"{title.split()[0].lower()}{suffix}", title, axes, hover)
    return Chart(title, svg, (baseline_line,))


def reliability_chart(
    title: str,
    name: str,
    before: Calibration,
    after: Calibration | None = None,
    labels: tuple[str, str] = ("confidence", "accuracy"),
) -> Chart:
    """Plot the reliability diagram, accuracy by confidence; larger points have more images.

    Args:
        title: title of the chart.
        name: its id in the page.
        before: calibration of the probabilities.
        after: the same after temperature scaling, if a temperature was fitted.
        labels: labels of the axes.
    """
    drawn = {Line("", "probabilities", "blue"): before}
    if after is not None:
        drawn = {Line("", "before scaling", "orange", "dashed"): before, Line("", "after scaling", "blue"): after}
    with chart_style():
        figure, axes = chart_axes(height=3.9)
        axes.plot([0, 1], [0, 1], **line_style("muted", "dotted", 1))
        for line, found in drawn.items():
            axes.plot(found.confidence, found.accuracy, **line_style(line.color, line.dash, 1.4))
            look: dict[str, Any] = {"color": css_color(line.color), "edgecolor": css_color("paper"), "zorder": 3}
            axes.scatter(found.confidence, found.accuracy, 12 + 250 * found.share, **look)
        axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.04), xlabel=labels[0], ylabel=labels[1])
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis)
        svg = figure_svg(figure, name, f"{labels[1]} by {labels[0]}".capitalize())
    return Chart(title, svg, (*drawn, Line("", "perfect calibration", "muted", "dotted")))


def chart_style() -> AbstractContextManager[None]:
    """Return matplotlib's settings for charts, independent of the user's settings."""
    text, line = css_color("text"), css_color("line")
    settings = {
        "svg.fonttype": "none", "svg.hashsalt": "transxnet", "font.size": 11.5, "lines.linewidth": 1.8,
        "axes.edgecolor": text, "axes.labelcolor": text, "text.color": text, "xtick.color": text, "ytick.color": text,
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": line, "axes.axisbelow": True, "ytick.major.size": 0,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    }  # fmt: skip
    return style.context(["default", settings])


def chart_axes(height: float = 3.1) -> tuple[Figure, Axes]:
    """Create a figure 360 units wide, the width of a phone, which keeps its text about as large as the page's."""
    figure = Figure(figsize=(5, height), layout="constrained")
    return figure, figure.add_subplot()


def css_color(name: str) -> str:
    """Return matplotlib's placeholder for a color of the page."""
    return _COLORS[name][0]


def line_style(color: str, dash: str, width: float) -> dict[str, Any]:
    """Return arguments of ``Axes.plot`` for a color of the page, a key of ``DASHES`` and a width in points."""
    dashes: dict[str, Any] = {"dashes": DASHES[dash]} if DASHES[dash] else {}
    return {"color": css_color(color), "linewidth": width, **dashes}


def percent_axis(axis: Axis) -> None:
    """Label an axis of fractions in percent, with the decimals that its ticks need."""
    ticks = 100 * axis.get_majorticklocs()
    decimals = next((d for d in range(4) if np.allclose(ticks, ticks.round(d), rtol=0, atol=1e-6)), 4)
    axis.set_major_formatter(PercentFormatter(1, decimals))


def figure_svg(
    figure: Figure, name: str, label: str, axes: Axes | None = None, hover: Sequence[tuple[float, str]] = ()
) -> Markup:
    """Return the figure as inline SVG in the page's colors, with ids that are unique in the page.

    It must not contain text from users: matplotlib reads text between dollar signs as a formula.

    Args:
        figure: figure drawn under :func:`chart_style`, in colors of :func:`css_color`.
        name: prefix of the ids.
        label: text for screen readers.
        axes: axes that ``hover`` belongs to.
        hover: (x, text) by rising x; the text appears while the mouse is nearer to this x than to the others.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', text)
    assert view_box is not None
    text = re.sub(r"<svg[^>]*>", f'<svg {view_box[0]} role="img" aria-label="{label}">', text, count=1)
    text = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
    for placeholder, page_color in _COLORS.values():
        text = text.replace(placeholder, page_color)
    if axes is not None and hover:
        text = text.replace("</svg>", "".join(_hover_bands(figure, axes, hover)) + "</svg>")
    return Markup(text)


def _hover_bands(figure: Figure, axes: Axes, hover: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Create an invisible rectangle with a tooltip for each x, in SVG's points from the upper left corner."""
    width, height = 72 * figure.get_figwidth(), 72 * figure.get_figheight()
    box = axes.get_position()
    left, right, top = width * box.x0, width * box.x1, height * (1 - box.y1)
    points = axes.transData.transform([(x, 0) for x, _ in hover])
    centers = figure.transFigure.inverted().transform(points)[:, 0] * width
    edges = np.clip([left, *(centers[1:] + centers[:-1]) / 2, right], left, right)
    for (_, text), x1, x2 in zip(hover, edges[:-1], edges[1:], strict=True):
        yield (
            f'<rect class="hover" x="{x1:.1f}" y="{top:.1f}" width="{x2 - x1:.1f}" height="{height * box.height:.1f}">'
            f"<title>{escape(text)}</title></rect>"
        )
