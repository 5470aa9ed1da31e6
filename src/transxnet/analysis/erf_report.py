"""What is told of effective receptive fields: a table, a figure on one scale, files of figures."""

import csv
import io
import json
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

from transxnet.analysis.erf import FILES, SHARES, ReceptiveField
from transxnet.analysis.figure_files import MUTED, mark_untrained, paper_look, shut, write_figure, write_text
from transxnet.utils.environment import collect_environment
from transxnet.utils.files import write_whole

COLUMNS = 4  # of the figure, at most
PANEL = 2.5  # width of a field, in inches
DECADES = 4  # that the colours span at most, downward from the highest density
CIRCLE = "#19b8e0"  # seen on the darkest and the lightest of the scale, and on paper
DASHES: tuple[Literal["-"], Literal["--"], Literal[":"]] = ("-", "--", ":")  # of the circles, in the order of SHARES


def table(fields: Sequence[ReceptiveField]) -> Table:
    """The radii and areas for a terminal."""
    result = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    result.add_column("model", overflow="fold")
    result.add_column("place")
    for share in SHARES:
        result.add_column(f"{share:.0%} within\nradius, area", justify="right", no_wrap=True)
    for field in fields:
        cells = [f"{field.radius(share):.1f} px, {field.area(share):.1%}" for share in SHARES]
        label = Text.assemble(field.label, (", untrained" * field.untrained, "dim"))
        result.add_row(label, Text(field.place), *cells)
    return result


def figures(field: ReceptiveField) -> dict[str, Any]:
    """What is known of a field, by name."""
    return {
        "model": field.label,
        "place": field.place,
        "untrained": field.untrained,
        "images": field.images,
        "size": len(field.density),
        **{f"radius_{100 * share:.0f}": round(field.radius(share), 3) for share in SHARES},
        **{f"area_{100 * share:.0f}": round(field.area(share), 6) for share in SHARES},
    }


def write(fields: Sequence[ReceptiveField], folder: Path) -> list[Path]:
    """Write the figure and the files of figures; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, sheet, record = (folder / name for name in FILES)
    rows = [figures(field) for field in fields]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_figure(draw(fields), picture)
    write_whole(sheet, text.getvalue())
    write_whole(record, json.dumps({"fields": rows, "environment": collect_environment()}, indent=2) + "\n")
    return [picture, sheet, record]


def draw(fields: Sequence[ReceptiveField]) -> Figure:
    """The fields side by side on one logarithmic scale, with circles around 20, 50 and 99% of their mass."""
    columns = min(COLUMNS, len(fields))
    rows = math.ceil(len(fields) / columns)
    with paper_look():
        figure = Figure(figsize=(PANEL * columns + 0.9, (PANEL + 0.6) * rows + 0.4), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        # Not by the very highest: a few pixels under the corners of patches would set the scale for all.
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
        bar.set_label("share of the gradient per pixel")
        keys = [Line2D([], [], color=CIRCLE, linestyle=dash, linewidth=1.2) for dash in DASHES]
        texts = [f"{share:.0%} of the gradient is within" for share in SHARES]
        figure.legend(keys, texts, loc="outside lower center", ncols=min(3, columns), frameon=False, fontsize=8)
    return figure


def _annotate(axes: Axes, field: ReceptiveField) -> None:
    for share, dash in zip(SHARES, DASHES, strict=True):
        centre = field.centre[1], field.centre[0]
        circle = Circle(centre, field.radius(share), fill=False, color=CIRCLE, linewidth=1.2, linestyle=dash)
        circle.set_path_effects([withStroke(linewidth=2.2, foreground="#00000080")])
        axes.add_patch(circle)
    shut(axes)
    radii = " / ".join(f"{field.radius(share):.0f}" for share in SHARES)
    title = [*field.label.replace(" (", "\n(").split("\n"), field.place]
    write_text(axes.set_title(""), "\n".join(title), 8.5, width=PANEL)
    write_text(axes.set_xlabel(""), f"radii {radii} px", 8, color=MUTED)
    if field.untrained:
        mark_untrained(axes)
