"""The rule for the best epoch of a training."""

import math
from collections.abc import Mapping, Sequence

from transxnet.metrics.metric_names import format_metric

SELECTION_METRICS = {
    "classes": ("accuracy", "accuracy"),
    "multilabel": ("macro_ap", "mean AP"),
    "regression": ("r2", "R2"),
    "detect": ("ap", "AP"),
    "segment": ("miou", "mean IoU"),
    "pretrain": ("effective_rank", "effective rank"),
}
"""Metric on the validation images that selects the best epoch, and its readable name, by what the model predicts.

The highest value is the best, and the first of equal values.
"""


def monitored_metric(predicted: str) -> str:
    """Return the name under which the selection metric is logged."""
    return f"val_{SELECTION_METRICS[predicted][0]}"


def find_best_epoch(history: Sequence[Mapping[str, float]], predicted: str) -> Mapping[str, float] | None:
    """Return the row of the best epoch; None if no epoch has the metric, as without any validation object.

    Args:
        history: one row per epoch, with the logged metrics of the validated ones.
        predicted: what the model predicts: a key of ``SELECTION_METRICS``.
    """
    metric = monitored_metric(predicted)
    rows = [row for row in history if not math.isnan(row.get(metric, math.nan))]
    return max(rows, key=lambda row: row[metric], default=None)


def describe_saved_epoch(
    history: Sequence[Mapping[str, float]], predicted: str, select: str, averaged: Sequence[int] = ()
) -> str:
    """Name the epoch whose weights are saved, and the reason; or those that are averaged, and the best epoch.

    Args:
        history: as in :func:`find_best_epoch`.
        predicted: likewise.
        select: "best" or "last".
        averaged: epochs whose weights are averaged, if any.
    """
    metric, name = SELECTION_METRICS[predicted]
    best = find_best_epoch(history, predicted)
    value = "" if best is None else format_metric(metric, best[monitored_metric(predicted)])
    if averaged:
        mean = f"mean of epochs {', '.join(map(str, averaged))}"
        return mean if best is None else f"{mean} (best epoch: {best['epoch']:.0f}, validation {name} {value})"
    if select == "last":
        return "last epoch"
    if best is None:
        return f"last epoch, since no epoch has a validation {name}"
    return f"epoch {best['epoch']:.0f} of {history[-1]['epoch']:.0f}, highest validation {name} ({value})"
