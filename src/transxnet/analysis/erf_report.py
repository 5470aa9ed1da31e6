"""Report effective receptive fields: a table, a figure with one scale for all, a CSV and a JSON file."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from rich.table import Table
from rich.text import Text

from transxnet.analysis.figure_style import MUTED, add_note, figure_style, hide_axes, mark_untrained, set_text
from transxnet.analysis.receptive_field import ReceptiveField
from transxnet.analysis.result_files import write_results

FILES = ("erf.png", "erf.csv", "erf.json")
SHARES = (0.2, 0.5, 0.99)
"""Fractions of the gradient for which radius and area are reported."""
COLUMNS = 4  # most panels in a row of the figure
PANEL = 2.5  # width of a panel, in inches
DECADES = 4  # largest range of the color scale, below the highest density
CIRCLE = "#19b8e0"  # visible on the darkest and lightest colors of the scale, also when printed
UNTRAINED = (
    "Untrained: LayerScale starts near zero, so the field of a stage with it is mostly that of its patch embeddings "
    "and position encodings."
)
DASHES: tuple[Literal["-"], Literal["--"], Literal[":"]] = ("-", "--", ":")  # line styles in the order of SHARES


def table(fields: Sequence[ReceptiveField]) -> Table:
    """The table of radii and areas for a terminal."""
    result = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    result.add_column("model", overflow="fold")
    result.add_column("part")
    for share in SHARES:
        result.add_column(f"{share:.0%} of gradient\nradius, area", justify="right", no_wrap=True)
    for field in fields:
        cells = [f"{field.radius(share):.1f} px, {field.area(share):.1%}" for share in SHARES]
        label = Text.assemble(field.label, (", untrained" * field.untrained, "dim"))
        result.add_row(label, Text(field.part), *cells)
    return result


def table_row(field: ReceptiveField) -> dict[str, Any]:
    """A field's row in the CSV and the JSON file."""
    return {
        "model": field.label,
        "part": field.part,
        "untrained": field.untrained,
        "images": field.images,
        "size": len(field.density),
        **{f"radius_{100 * share:.0f}": round(field.radius(share), 3) for share in SHARES},
        **{f"area_{100 * share:.0f}": round(field.area(share), 6) for share in SHARES},
    }


def write(fields: Sequence[ReceptiveField], folder: Path) -> list[Path]:
    """Write the figure, the CSV and the JSON file, and return their paths."""
    rows = [table_row(field) for field in fields]
    return write_results(folder, FILES, draw(fields), rows, {"fields": rows})


def draw(fields: Sequence[ReceptiveField]) -> Figure:
    """Draw the fields side by side on one logarithmic scale, with circles around 20, 50 and 99% of their mass."""
    columns = min(COLUMNS, len(fields))
    rows = math.ceil(len(fields) / columns)
    with figure_style():
        figure = Figure(figsize=(PANEL * columns + 0.9, (PANEL + 1.0) * rows + 0.8), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        # Not the maximum: a few pixels under the corners of patches would set the scale for all.
        highest = max(float(np.percentile(field.density, 99.95)) for field in fields)
        faintest = min(float(np.percentile(field.density, 1)) for field in fields)
        lowest = min(max(highest / 10**DECADES, faintest), highest / 10)
        for axes in grid.flat[len(fields) :]:
            axes.remove()
        for axes, field in zip(grid.flat, fields, strict=False):
            shown = np.maximum(field.density, lowest)
            image = axes.imshow(shown, cmap="magma", norm=LogNorm(lowest, highest), interpolation="nearest")
            _annotate(axes, field)
        bar = figure.colorbar(image, ax=list(grid.flat[: len(fields)]), shrink=0.85, aspect=28, extend="both", pad=0.02)
        bar.set_label("fraction of the gradient per pixel")
        keys = [Line2D([], [], color=CIRCLE, linestyle=dash, linewidth=1.2) for dash in DASHES]
        texts = [f"contains {share:.0%} of the gradient" for share in SHARES]
        if any(field.untrained for field in fields):
            add_note(figure, UNTRAINED, PANEL * columns)
        figure.legend(keys, texts, loc="outside lower center", ncols=min(3, columns), frameon=False, fontsize=8)
    return figure


def _annotate(axes: Axes, field: ReceptiveField) -> None:
    for share, dash in zip(SHARES, DASHES, strict=True):
        center = field.center[1], field.center[0]
        circle = Circle(center, field.radius(share), fill=False, color=CIRCLE, linewidth=1.2, linestyle=dash)
        circle.set_path_effects([withStroke(linewidth=2.2, foreground="#00000080")])
        axes.add_patch(circle)
    hide_axes(axes)
    size = len(field.density)
    ticks = [-0.5, size / 2 - 0.5, size - 0.5]
    axes.set_xticks(ticks, [f"{place + 0.5:g}" for place in ticks], fontsize=7, color=MUTED)
    axes.set_yticks(ticks, [f"{place + 0.5:g}" for place in ticks], fontsize=7, color=MUTED)
    radii = " / ".join(f"{field.radius(share):.0f}" for share in SHARES)
    title = [*field.label.replace(" (", "\n(").split("\n"), field.part]
    set_text(axes.set_title(""), "\n".join(title), 8.5, width=PANEL)
    set_text(axes.set_xlabel(""), f"position in pixels\nradii of the circles: {radii} px", 8, color=MUTED)
    if field.untrained:
        mark_untrained(axes)
