"""The rule for the best epoch of a training."""

from collections.abc import Mapping, Sequence

import numpy as np

SELECTION_METRICS = {"classify": ("accuracy", "accuracy"), "detect": ("ap", "AP"), "segment": ("miou", "mean IoU")}
"""Metric on the validation images that selects the best epoch of each task, and its readable name.

The highest value is the best, and the first of equal values.
"""


def monitored_metric(task: str) -> str:
    """Return the name under which the task's selection metric is logged."""
    return f"val_{SELECTION_METRICS[task][0]}"


def find_best_epoch(history: Sequence[Mapping[str, float]], task: str) -> Mapping[str, float] | None:
    """Return the row of the best epoch; None if no epoch was validated.

    Args:
        history: one row per epoch, with the logged metrics of the validated ones.
        task: "classify", "detect" or "segment".
    """
    rows = [row for row in history if monitored_metric(task) in row]
    if not rows:
        return None
    values = np.array([row[monitored_metric(task)] for row in rows], dtype=np.float64)
    return rows[int(np.argmax(np.where(np.isnan(values), -np.inf, values)))]


def describe_saved_epoch(history: Sequence[Mapping[str, float]], task: str, select: str) -> str:
    """Name the epoch whose weights are saved, and the reason.

    Args:
        history: as in :func:`find_best_epoch`.
        task: likewise.
        select: "best" or "last".
    """
    best = find_best_epoch(history, task) if select == "best" else None
    if best is None:
        return "last epoch"
    name = SELECTION_METRICS[task][1]
    value = best[monitored_metric(task)]
    return f"epoch {best['epoch']:.0f} of {history[-1]['epoch']:.0f}, highest validation {name} ({100 * value:.1f}%)"
