"""A chart of throughput against published accuracy, with the frontier of the networks that none exceeds in both."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from transxnet.analysis.figure_style import INK, MUTED, figure_style
from transxnet.benchmark.benchmark_result import Benchmark
from transxnet.benchmark.presets import PublishedAccuracy

OURS, LINE, GRID = "#1f5fbf", "#c4510a", "#e6e8eb"
OFFSETS = ((7, 0), (-7, 0), (0, 9), (0, -9), (7, 8), (7, -8), (-7, 8), (-7, -8), (0, 18), (0, -18))
"""Places of a label around its point in points, the preferred first."""


def plot_frontier(result: Benchmark, path: Path) -> None:
    """Plot images per second against published top-1 accuracy; failed models are skipped.

    Args:
        result: a benchmark whose models have published accuracies; others are skipped too.
        path: a PNG file.
    """
    frontier = result.frontier()
    points = [(row, found) for row in result.rows if not row.failure and (found := result.accuracy(row))]
    with figure_style():
        figure = Figure(figsize=(7.2, 4.6), layout="constrained")
        axes = figure.add_subplot()
        best = [(row.images_per_second, found.top1) for row, found in points if row in frontier]
        best.sort()
        axes.step(*zip(*best, strict=True), where="pre", color=LINE, linewidth=1.2, zorder=1, label="frontier")
        for row, found in points:
            ours = row.model.spec.is_transxnet
            axes.plot(
                row.images_per_second,
                found.top1,
                marker="o" if ours else "^" if found.training else "s",
                markersize=7 if ours else 5,
                color=OURS if ours else MUTED,
                zorder=3,
            )
        _style_axes(axes, result)
        labels = [(row.images_per_second, found.top1, _label(result, found)) for row, found in points]
        colors = [OURS if row.model.spec.is_transxnet else INK for row, _ in points]
        _place_labels(figure, axes, labels, colors, best)
        figure.savefig(path, format="png", dpi=200, facecolor="white")  # opaque: legible in light and dark themes


def _label(result: Benchmark, published: PublishedAccuracy) -> str:
    """The network's name, with the size of its images if it differs from that of the others."""
    same = result.settings.size == (published.size, published.size)
    return published.label if same else f"{published.label}, {published.size} px"


def _style_axes(axes: Axes, result: Benchmark) -> None:
    settings = result.settings
    axes.set_xscale("log")
    axes.margins(x=0.14, y=0.1)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", length=0)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel(
        f"images per second, batch {settings.batch}, {settings.dtype}, {settings.device.upper()} (log scale)"
    )
    axes.set_ylabel("ImageNet-1k top-1 in %, published")
    handles = [
        axes.plot([], [], "o", color=OURS, markersize=7, label="TransXNet")[0],
        axes.plot([], [], "s", color=MUTED, markersize=5, label="supervised on ImageNet-1k")[0],
        axes.plot([], [], "^", color=MUTED, markersize=5, label="distilled")[0],
        axes.plot([], [], color=LINE, linewidth=1.2, label="frontier")[0],
    ]
    axes.legend(handles=handles, loc="lower left", frameon=False, fontsize=8)


def _place_labels(
    figure: Figure,
    axes: Axes,
    labels: Sequence[tuple[float, float, str]],
    colors: Sequence[str],
    line: Sequence[tuple[float, float]],
) -> None:
    """Place each label where it overlaps the fewest points, labels placed before, and parts of the frontier."""
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    pixels = axes.transData.transform([(x, y) for x, y, _ in labels])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    taken += [legend.get_window_extent() for legend in [axes.get_legend()] if legend]
    for (x0, y0), (x1, y1) in pairwise(map(axes.transData.transform, line)):
        taken += [Bbox.from_extents(x0 - 1, y1, x0 + 1, y0), Bbox.from_extents(x0, y1 - 1, x1, y1 + 1)]
    inside = axes.get_window_extent()
    for (x, y, text), color in zip(labels, colors, strict=True):
        candidates = []
        for rank, (dx, dy) in enumerate(OFFSETS):
            label = axes.annotate(
                text,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                ha={1: "left", 0: "center", -1: "right"}[(dx > 0) - (dx < 0)],
                va="center",
                fontsize=8,
                color=color,
            )
            box = label.get_window_extent().padded(scale)
            overlaps = sum(_overlap(box, other) for other in taken) + 10 * (
                box.width * box.height - _overlap(box, inside)
            )
            candidates.append((overlaps, rank, label, box))
        _, _, kept, box = min(candidates, key=lambda entry: entry[:2])
        taken.append(box)
        for _, _, label, _ in candidates:
            if label is not kept:
                label.remove()


def _overlap(a: Bbox, b: Bbox) -> float:
    common = Bbox.intersection(a, b)
    return common.width * common.height if common else 0.0
