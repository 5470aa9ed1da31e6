"""Metrics with their intervals, as text for tables and tiles."""

from collections.abc import Sequence

from transxnet.metrics.intervals import Resampled
from transxnet.metrics.metric_names import METRIC_NAMES, format_interval, format_metric
from transxnet.reports.report_data import Tile


def format_metrics(evaluation: Resampled) -> list[tuple[str, str, str]]:
    """Return (name, value, interval) of each metric, in the order of the tables; the interval may be empty."""
    metrics, limits = evaluation.metrics(), evaluation.intervals.limits
    return [
        (name, format_metric(name, metrics[name]), format_interval(name, limits.get(name)))
        for name in METRIC_NAMES
        if name in metrics
    ]


def metric_tile(evaluation: Resampled, name: str, label: str, notes: Sequence[str]) -> Tile:
    """Return the tile of a metric, with its interval as the last note."""
    metrics = evaluation.metrics()
    value = format_metric(name, metrics[name]) if name in metrics else "\u2013"
    interval = format_interval(name, evaluation.intervals.limits.get(name))
    return Tile(label, value, [*notes, f"95% interval {interval}"] if interval else notes)
