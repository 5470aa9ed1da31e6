"""The rule for the best epoch of a training."""

import math
from collections.abc import Mapping, Sequence

SELECTION_METRICS = {"classify": ("accuracy", "accuracy"), "detect": ("ap", "AP"), "segment": ("miou", "mean IoU")}
"""Metric on the validation images that selects the best epoch of each task, and its readable name.

The highest value is the best, and the first of equal values.
"""


def monitored_metric(task: str) -> str:
    """Return the name under which the task's selection metric is logged."""
    return f"val_{SELECTION_METRICS[task][0]}"


def find_best_epoch(history: Sequence[Mapping[str, float]], task: str) -> Mapping[str, float] | None:
    """Return the row of the best epoch; None if no epoch has the metric, as without any validation object.

    Args:
        history: one row per epoch, with the logged metrics of the validated ones.
        task: "classify", "detect" or "segment".
    """
    metric = monitored_metric(task)
    rows = [row for row in history if not math.isnan(row.get(metric, math.nan))]
    return max(rows, key=lambda row: row[metric], default=None)


def describe_saved_epoch(history: Sequence[Mapping[str, float]], task: str, select: str) -> str:
    """Name the epoch whose weights are saved, and the reason.

    Args:
        history: as in :func:`find_best_epoch`.
        task: likewise.
        select: "best" or "last".
    """
    name = SELECTION_METRICS[task][1]
    if select == "last":
        return "last epoch"
    best = find_best_epoch(history, task)
    if best is None:
        return f"last epoch, since no epoch has a validation {name}"
    value = best[monitored_metric(task)]
    return f"epoch {best['epoch']:.0f} of {history[-1]['epoch']:.0f}, highest validation {name} ({100 * value:.1f}%)"
