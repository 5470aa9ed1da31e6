"""The values of single images from which a classifier's metrics are computed."""

import math
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multiclass_matthews_corrcoef,
)

from transxnet.metrics.count_metrics import classification_metrics, weighted_mean


@dataclass(frozen=True)
class ImageValues:
    """Values of N images of C classes.

    A resample takes rows of them, so that its cost does not grow with the number of classes.

    Attributes:
        num_classes: C.
        ranked_classes: the R classes that AUROC and AUPRC are means of.
        labels: (N,) class indices.
        predictions: (N,) classes of the highest probability.
        confidence: (N, T) highest probability, before and, with T = 2, after temperature scaling.
        bins: (N, T) bin of each confidence.
        errors: (N, T) squared errors of the probabilities, likewise.
        scores: (N, R) probabilities of the ranked classes.
        detected: (N,) whether the positive class of two is predicted at the fitted threshold; None without one.
        positive: (N,) whether the image is of that class; None likewise.
        in_top: (N,) whether the label is among the 5 most probable classes; None for 5 classes or fewer.
        weights: (N,) confidence in each label, 0 to 1; None without weights.
    """

    num_classes: int
    ranked_classes: list[int]
    labels: np.ndarray
    predictions: np.ndarray
    confidence: np.ndarray
    bins: np.ndarray
    errors: np.ndarray
    scores: np.ndarray
    detected: np.ndarray | None = None
    positive: np.ndarray | None = None
    in_top: np.ndarray | None = None
    weights: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> Self:
        """Return the images at these indices, which may repeat."""
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: x[indices] for name, x in arrays.items() if isinstance(x, np.ndarray)})

    def without_ranking(self) -> Self:
        """Return the same images without AUROC and AUPRC, whose cost grows with the number of classes."""
        return replace(self, ranked_classes=[], scores=self.scores[:, :0])

    @property
    def correct(self) -> np.ndarray:
        """(N,) whether each prediction is the label."""
        return self.predictions == self.labels

    def metrics(self) -> dict[str, float]:
        """Compute all metrics; NaN where a class that they need is absent.

        AUROC and AUPRC are means over the ranked classes that some, but not all images have. Balanced accuracy and F1
        are means over the classes that occur in the labels. ``majority`` is the accuracy of always predicting the most
        frequent class.
        """
        metrics = classification_metrics(self._counts())
        if self.in_top is not None:
            metrics["top5_accuracy"] = float(self.in_top.mean())
        if self.weights is not None:
            metrics["weighted_accuracy"] = weighted_mean(self.correct, self.weights)
        predicted, labels = torch.from_numpy(self.predictions), torch.from_numpy(self.labels)
        metrics["mcc"] = float(multiclass_matthews_corrcoef(predicted, labels, self.num_classes, validate_args=False))
        if self.ranked_classes:
            metrics["auroc"], metrics["auprc"] = self._ranking()
        if self.detected is not None and self.positive is not None:
            metrics["sensitivity"] = _mean(self.detected[self.positive])
            metrics["specificity"] = _mean(~self.detected[~self.positive])
        for column, suffix in enumerate(("", "_scaled")[: self.confidence.shape[1]]):
            gaps = np.bincount(self.bins[:, column], self.correct - self.confidence[:, column])
            metrics[f"ece{suffix}"] = float(np.abs(gaps).sum() / len(self.labels))
            metrics[f"brier{suffix}"] = float(self.errors[:, column].mean())
        return metrics

    def _counts(self) -> np.ndarray:
        """Return the counts (C, 5) that :func:`classification_metrics` takes."""
        of = (self.labels[self.correct], self.labels, self.predictions)
        hits, support, found = (np.bincount(each, minlength=self.num_classes) for each in of)
        negatives = len(self.labels) - support - found + hits
        return np.stack([hits, found - hits, negatives, support - hits, support], axis=1)

    def _ranking(self) -> tuple[float, float]:
        found = []
        for column, number in enumerate(self.ranked_classes):
            target = torch.from_numpy(self.labels == number).long()
            if 0 < target.sum() < len(target):
                pair = torch.from_numpy(self.scores[:, column]), target
                found.append([float(f(*pair, validate_args=False)) for f in (binary_auroc, binary_average_precision)])
        auroc, auprc = np.mean(found, axis=0) if found else (math.nan, math.nan)
        return float(auroc), float(auprc)


def _mean(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else math.nan
