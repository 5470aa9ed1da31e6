"""Metrics of classes from counts of images."""

import numpy as np


def classification_metrics(counts: np.ndarray, top_counts: np.ndarray | None = None) -> dict[str, float]:
    """Compute metrics from 0 to 1 from counts of images, in float64.

    Training computes the metrics of each epoch with it, too, so that equal predictions give equal values.

    Args:
        counts: (C, 5) true positives, false positives, true negatives, false negatives and support of each class, as
            returned by torchmetrics' ``multiclass_stat_scores(average=None)``.
        top_counts: (5,) the same over all classes with ``top_k=5`` and ``average="micro"``, for the top-5 accuracy.
    """
    support = counts[:, 4]
    per_class, seen = class_metrics_from_counts(counts), support > 0
    metrics = {
        "accuracy": float(counts[:, 0].sum() / support.sum()),
        "balanced_accuracy": float(per_class["recall"][seen].mean()),
        "f1": float(per_class["f1"][seen].mean()),
        "majority": float(support.max() / support.sum()),
    }
    if top_counts is not None:
        metrics["top5_accuracy"] = float(top_counts[0] / top_counts[4])
    return metrics


def class_metrics_from_counts(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute (C,) precision, recall, f1 and support of each class; 0 where a denominator is 0.

    Args:
        counts: (C, 5), as for :func:`classification_metrics`.
    """
    hits, false_alarms, _, misses, support = counts.T.astype(np.int64)
    ratios = {
        "precision": (hits, hits + false_alarms),
        "recall": (hits, hits + misses),
        "f1": (2 * hits, 2 * hits + false_alarms + misses),
    }
    return {name: part / np.maximum(whole, 1) for name, (part, whole) in ratios.items()} | {"support": support}


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the mean of values (N,) weighted by (N,); NaN if all weights are 0."""
    return float(np.average(values, weights=weights)) if weights.any() else np.nan
