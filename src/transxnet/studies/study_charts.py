"""The charts of a study: intervals, ROC and precision-recall curves with bands, calibration, learning curves."""

from collections.abc import Callable, Sequence
from textwrap import fill

import numpy as np
from matplotlib.ticker import MaxNLocator

from transxnet.metrics.best_epoch import SELECTION_METRICS, monitored_metric
from transxnet.metrics.binary_curves import BinaryCurves
from transxnet.metrics.publication_metrics import ScoredImages
from transxnet.reports.charts import (
    DASHES,
    Chart,
    Line,
    Plot,
    chart_axes,
    chart_style,
    css_color,
    figure_svg,
    history_charts,
    line_style,
    percent_axis,
    reliability_chart,
)
from transxnet.studies.study_metrics import metric_title
from transxnet.studies.study_results import StudyResult

_COLORS = ("blue", "orange", "green")
_GRID = np.linspace(0, 1, 101)

Curve = Callable[[BinaryCurves], np.ndarray]
"""A curve of one run as values at ``_GRID``."""


def arm_lines(names: Sequence[str]) -> list[Line]:
    """Return the line of each arm in all charts: three colors, and then the next dashes."""
    dashes = list(DASHES)
    return [
        Line(f"arm{i}", name, _COLORS[i % len(_COLORS)], dashes[i // len(_COLORS) % len(dashes)])
        for i, name in enumerate(names)
    ]


def forest_plot(result: StudyResult, metric: str) -> Chart:
    """Plot a metric of each arm with its 95% interval, and the values of its folds as dots."""
    name, rows = metric_title(metric), list(result.estimates.items())
    with chart_style():
        figure, axes = chart_axes(height=1.0 + 0.5 * len(rows))
        for y, (arm, row) in enumerate(rows):
            values = result.of(arm).by_run[metric].ravel()
            axes.scatter(values, [y] * len(values), 22, color=css_color("muted"), alpha=0.5, linewidths=0, zorder=2)
            estimate = row[metric]
            axes.plot([estimate.low, estimate.high], [y, y], color=css_color("blue"), linewidth=2.5, zorder=3)
            axes.plot(estimate.value, y, "s", markersize=8, color=css_color("blue"), zorder=4)
        axes.set_yticks(range(len(rows)), [fill(arm, 22) for arm, _ in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(name)
        svg = figure_svg(figure, f"forest-{metric}", f"{name} of each arm with its interval")
    return Chart(f"{name} with 95% interval", svg, ())


def rate_charts(result: StudyResult) -> list[Chart]:
    """Plot ROC and precision-recall curves of two classes: mean over the runs, and a standard deviation each way."""
    if result.folder.positive is None:
        return []
    return [
        _banded_chart("ROC curves", ("1 - specificity", "sensitivity"), result, _roc),
        _banded_chart("Precision-recall curves", ("recall", "precision"), result, _precision_recall),
    ]


def _banded_chart(title: str, labels: tuple[str, str], result: StudyResult, curve: Curve) -> Chart:
    lines = arm_lines([arm.arm.name for arm in result.arms])
    with chart_style():
        figure, axes = chart_axes(height=3.9)
        for arm, line in zip(result.arms, lines, strict=True):
            tested = [each.images for each in arm.folds]
            values = np.array(
                [curve(_binary(images)) for images in tested if isinstance(images, ScoredImages) and _has_both(images)]
            )
            mean, std = values.mean(0), values.std(0)
            axes.fill_between(
                _GRID,
                np.clip(mean - std, 0, 1),
                np.clip(mean + std, 0, 1),
                color=css_color(line.color),
                alpha=0.12,
                linewidth=0,
            )
            axes.plot(_GRID, mean, **line_style(line.color, line.dash, 1.8))
        axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel=labels[0], ylabel=labels[1])
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis)
        svg = figure_svg(figure, title.split()[0].lower(), title)
    return Chart(title, svg, tuple(lines))


def _binary(images: ScoredImages) -> BinaryCurves:
    assert images.positive is not None
    return BinaryCurves(images.positive, images.scores, images.is_positive)


def _has_both(images: ScoredImages) -> bool:
    return 0 < images.is_positive.sum() < len(images.labels)


def _roc(curves: BinaryCurves) -> np.ndarray:
    """Return the sensitivity at each false positive rate."""
    false_positives, recall, _ = curves.roc()
    last = np.searchsorted(false_positives, _GRID, side="right") - 1
    return recall[last]


def _precision_recall(curves: BinaryCurves) -> np.ndarray:
    """Return the highest precision with at least each recall."""
    precision, recall, _ = (values[::-1] for values in curves.precision_recall())  # by rising recall
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return best[np.searchsorted(recall, _GRID.astype(recall.dtype), side="left").clip(max=len(recall) - 1)]


def calibration_charts(result: StudyResult) -> list[Chart]:
    """Plot accuracy by confidence of each arm, before and after temperature scaling, of the pooled predictions."""
    if result.folder.task != "classify":
        return []
    pooled = {arm.arm.name: ScoredImages.concatenate(arm.pooled) for arm in result.arms}
    return [
        reliability_chart(name, f"calibration{number}", images.calibration(False), images.calibration(True))
        for number, (name, images) in enumerate(pooled.items())
    ]


def learning_charts(result: StudyResult) -> list[Chart]:
    """Plot the validation metric and the loss of each arm over the epochs, mean over its runs."""
    lines = tuple(arm_lines([arm.arm.name for arm in result.arms]))
    predicted = result.folder.config.predicted
    name = SELECTION_METRICS[predicted][1]
    title = f"{name[0].upper()}{name[1:]} on validation images"
    plots = {
        monitored_metric(predicted): Plot(title, lines, in_percent=True, mark_best=False),
        "train_loss": Plot("Training loss", lines, mark_best=False),
    }
    return [chart for column, plot in plots.items() for chart in history_charts(_mean_history(result, column), [plot])]


def _mean_history(result: StudyResult, column: str) -> list[dict[str, float]]:
    """Return a row per epoch with the mean of a column over the runs of each arm."""
    rows: dict[float, dict[str, list[float]]] = {}
    for i, arm in enumerate(result.arms):
        for each in arm.folds:
            for row in each.history:
                if column in row:
                    rows.setdefault(row["epoch"], {}).setdefault(f"arm{i}", []).append(row[column])
    means = {epoch: {name: float(np.mean(values)) for name, values in row.items()} for epoch, row in rows.items()}
    return [{"epoch": epoch, **means[epoch]} for epoch in sorted(means)]
