"""Classification metrics, from a classifier's probabilities."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import binned_statistic, binomtest
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
    binary_roc,
    multiclass_confusion_matrix,
    multiclass_stat_scores,
)

TOP = 5
"""k of the top-k accuracy, which is computed with more than k classes."""


@dataclass(frozen=True)
class Calibration:
    """Accuracy of a classifier by confidence, in the B bins that are not empty (Guo et al. 2017).

    Attributes:
        confidence: (B,) mean of the highest probability.
        accuracy: (B,) share of correct predictions.
        share: (B,) share of all images.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error (ECE)."""
        return float((self.share * np.abs(self.accuracy - self.confidence)).sum())


@dataclass(frozen=True)
class OperatingPoint:
    """Precision and recall of the positive class if all images with at least the threshold are predicted as it.

    Attributes:
        threshold: smallest probability of the positive class.
        precision: fraction of the predicted images that are of the class.
        recall: fraction of the images of the class that are predicted.
    """

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True)
class BinaryCurves:
    """ROC and precision-recall curve of a classifier with two classes.

    Attributes:
        positive: index of the positive class.
        scores: (N,) probability of the positive class.
        labels: (N,) whether each image is of the positive class.
    """

    positive: int
    scores: np.ndarray
    labels: np.ndarray

    @property
    def auroc(self) -> float:
        """Area under the ROC curve."""
        return float(binary_auroc(*self._tensors()))

    @property
    def average_precision(self) -> float:
        """Average precision (AP)."""
        return float(binary_average_precision(*self._tensors()))

    def roc(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return false positive rate, recall and threshold, by falling threshold; the first has no predictions."""
        false_positives, recall, thresholds = (values.numpy() for values in binary_roc(*self._tensors()))
        return false_positives, recall, thresholds

    def precision_recall(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return precision, recall and threshold, by rising threshold."""
        precision, recall, thresholds = (values.numpy() for values in binary_precision_recall_curve(*self._tensors()))
        return precision[:-1], recall[:-1], thresholds  # the last point has no threshold

    def at_recall(self, wanted: float) -> OperatingPoint:
        """Return the point of the highest precision with at least this recall."""
        point = self._best(gain="precision", wanted=wanted)
        assert point is not None  # all images are predicted at the lowest threshold
        return point

    def at_precision(self, wanted: float) -> OperatingPoint | None:
        """Return the point of the highest recall with at least this precision; None if none has it."""
        return self._best(gain="recall", wanted=wanted)

    def youden_threshold(self) -> float:
        """Return the threshold of the highest sum of sensitivity and specificity (Youden 1950), the highest of several.

        It predicts at least one image as positive.
        """
        false_positives, recall, thresholds = self.roc()
        return float(thresholds[1:][np.argmax((recall - false_positives)[1:])])

    def _best(self, gain: str, wanted: float) -> OperatingPoint | None:
        precision, recall, thresholds = self.precision_recall()
        limited, gained = (recall, precision) if gain == "precision" else (precision, recall)
        reached = np.flatnonzero(limited >= np.float32(wanted))
        if not len(reached):
            return None
        order = np.lexsort((thresholds[reached], limited[reached], gained[reached]))
        i = reached[order[-1]]
        return OperatingPoint(self._shorten(float(thresholds[i])), float(precision[i]), float(recall[i]))

    def _shorten(self, threshold: float) -> float:
        """Round the threshold down to the fewest decimals that predict the same images."""
        count = (self.scores >= threshold).sum()
        for digits in range(2, 8):
            rounded = math.floor(threshold * 10**digits) / 10**digits
            if (self.scores >= rounded).sum() == count:
                return rounded
        return threshold

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.scores), torch.from_numpy(self.labels).long()


@dataclass(frozen=True)
class ClassificationEvaluation:
    """A classifier's results on N images of C classes.

    Attributes:
        class_names: C names, by class index.
        names: N image names.
        labels: (N,) true class indices.
        probabilities: (N, C) softmax outputs.
        weights: (N,) confidence in each label, 0 to 1, if the data has it; else None.
    """

    class_names: list[str]
    names: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predictions(self) -> np.ndarray:
        """(N,) predicted class indices."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> np.ndarray:
        """(N,) whether each prediction is the true class."""
        return self.predictions == self.labels

    @property
    def confidence(self) -> np.ndarray:
        """(N,) highest probability of each image."""
        return self.probabilities.max(axis=1)

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) counts, true class by row, predicted by column."""
        labels, num_classes = torch.from_numpy(self.labels), len(self.class_names)
        return multiclass_confusion_matrix(self._predictions(), labels, num_classes=num_classes).numpy()

    def metrics(self) -> dict[str, float]:
        """Compute metrics from 0 to 1: accuracy, top-5 (with more than 5 classes), balanced accuracy and macro F1.

        With weights also the weighted accuracy. Balanced accuracy and F1 are means over the classes that occur in the
        labels. ``majority`` is the accuracy of always predicting the most frequent class.
        """
        counts = torch.from_numpy(self.labels), len(self.class_names)
        top = None
        if len(self.class_names) > TOP:
            probabilities = torch.from_numpy(self.probabilities)
            top = _stat_scores(probabilities, *counts, average="micro", top_k=TOP)
        metrics = classification_metrics(_stat_scores(self._predictions(), *counts, average=None), top)
        if self.weights is not None:
            metrics["weighted_accuracy"] = weighted_mean(self.correct, self.weights)
        return metrics

    def per_class(self) -> dict[str, np.ndarray]:
        """Compute (C,) precision, recall, f1 and support (the number of images) of each class."""
        labels = torch.from_numpy(self.labels)
        return class_metrics_from_counts(_stat_scores(self._predictions(), labels, len(self.class_names), average=None))

    def accuracy_interval(self) -> tuple[float, float]:
        """Compute the 95% score interval of the accuracy (Wilson 1927)."""
        test = binomtest(int(self.correct.sum()), len(self.labels))
        interval = test.proportion_ci(confidence_level=0.95, method="wilson")
        return float(interval.low), float(interval.high)

    def calibration(self, bins: int = 10) -> Calibration:
        """Compute accuracy by confidence, in bins of equal width.

        torchmetrics' calibration error does not return the bins, and puts a confidence of exactly 1 in a separate bin.
        """
        confidence = self.confidence.astype(np.float64)
        binned = np.minimum(confidence, 1)  # rounding may give a probability above 1
        means = binned_statistic(binned, [confidence, self.correct], "mean", bins, range=(0, 1)).statistic
        counts = binned_statistic(binned, None, "count", bins, range=(0, 1)).statistic
        used = counts > 0
        mean_confidence, accuracy = means[:, used]
        return Calibration(mean_confidence, accuracy, counts[used] / counts.sum())

    def binary_curves(self) -> BinaryCurves | None:
        """Return the curves of the less frequent class, the second if both are as frequent.

        None unless there are two classes that both occur in the labels.
        """
        if len(self.class_names) != 2 or len(np.unique(self.labels)) < 2:
            return None
        positive = positive_class(self.labels)
        return BinaryCurves(positive, self.probabilities[:, positive], self.labels == positive)

    def most_confident(self, count: int, correct: bool, label: int | None = None) -> np.ndarray:
        """Return indices of the correct or the wrong predictions with the highest confidence, highest first.

        Args:
            count: maximum number of indices.
            correct: correct or wrong predictions.
            label: only images of this class.
        """
        indices = np.flatnonzero((self.correct == correct) & (True if label is None else self.labels == label))
        return indices[np.argsort(-self.confidence[indices], kind="stable")][:count]

    def _predictions(self) -> torch.Tensor:
        return torch.from_numpy(self.predictions)


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Return the mean of values (N,) weighted by (N,); NaN if all weights are 0."""
    return float(np.average(values, weights=weights)) if weights.any() else np.nan


def positive_class(labels: np.ndarray) -> int:
    """Return the less frequent class of two, the second if both are as frequent, from (N,) class indices."""
    counts = np.bincount(labels, minlength=2)
    return 0 if counts[0] < counts[1] else 1


def _stat_scores(predicted: torch.Tensor, labels: torch.Tensor, num_classes: int, **options: Any) -> np.ndarray:
    return multiclass_stat_scores(predicted, labels, num_classes=num_classes, **options).numpy()


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
