"""The metrics of a study: of decisions, of scores and of calibration, before and after temperature scaling."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multiclass_confusion_matrix,
    multiclass_matthews_corrcoef,
)

from transxnet.metrics.classification import Calibration, ClassificationEvaluation, class_metrics_from_counts

PUBLICATION_METRICS = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "f1": "F1 (macro)",
    "mcc": "MCC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ece": "ECE",
    "ece_scaled": "ECE, scaled",
    "brier": "Brier score",
    "brier_scaled": "Brier score, scaled",
}
"""Display name of each metric, in the order of the tables."""

BINARY_ONLY = ("sensitivity", "specificity")
"""The metrics of two classes only."""

LOWER_IS_BETTER = ("ece", "ece_scaled", "brier", "brier_scaled")
"""The metrics whose lowest value is the best."""


@dataclass(frozen=True)
class ScoredImages:
    """The predictions for N images of C classes, with what was fitted on validation images.

    Attributes:
        labels: (N,) class indices.
        probabilities: (N, C) softmax outputs.
        scaled: (N, C) the same after temperature scaling.
        positive: index of the positive class of two; None for more classes.
        detected: (N,) whether the probability of the positive class reaches the fitted threshold; None likewise.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    scaled: np.ndarray
    positive: int | None = None
    detected: np.ndarray | None = None

    @property
    def compared(self) -> tuple[str, ...]:
        """Metrics that are compared in addition to the one that ranks the arms."""
        return "auroc", "accuracy"

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: np.ndarray) -> "ScoredImages":
        """Return the images at these indices, which may repeat."""
        detected = None if self.detected is None else self.detected[indices]
        return ScoredImages(
            self.labels[indices], self.probabilities[indices], self.scaled[indices], self.positive, detected
        )

    @classmethod
    def concatenate(cls, parts: Sequence["ScoredImages"]) -> "ScoredImages":
        """Return the images of all parts, one part after the other."""
        detected = [part.detected for part in parts if part.detected is not None]
        return cls(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.scaled for part in parts]),
            parts[0].positive,
            np.concatenate(detected) if detected else None,
        )

    @property
    def is_positive(self) -> np.ndarray:
        """(N,) whether each image is of the positive class."""
        return self.labels == self.positive

    @property
    def scores(self) -> np.ndarray:
        """(N,) probability of the positive class."""
        return self.probabilities[:, self.positive]

    @property
    def correct(self) -> np.ndarray:
        """(N,) whether the class of the highest probability is the label."""
        return self.probabilities.argmax(1) == self.labels

    @property
    def confusion(self) -> np.ndarray:
        """(C, C) counts, true class by row, class of the highest probability by column."""
        predicted, labels = torch.from_numpy(self.probabilities).argmax(1), torch.from_numpy(self.labels)
        return multiclass_confusion_matrix(predicted, labels, self.probabilities.shape[1], validate_args=False).numpy()

    def calibration(self, scaled: bool) -> Calibration:
        """Return accuracy by confidence, before or after temperature scaling."""
        probabilities = self.scaled if scaled else self.probabilities
        return ClassificationEvaluation([], [], self.labels, probabilities).calibration()

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of ``PUBLICATION_METRICS``; NaN where a class that they need is absent.

        AUROC and AUPRC are those of the positive class, or means over the classes against all others. Balanced
        accuracy and F1 are means over the classes that occur in the labels.
        """
        labels, probabilities = torch.from_numpy(self.labels), torch.from_numpy(self.probabilities)
        confusion = self.confusion
        hits, support, found = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        counts = np.stack([hits, found - hits, np.zeros_like(hits), support - hits, support], axis=1)
        per_class = class_metrics_from_counts(counts[support > 0])
        auroc, auprc = self._ranking(labels, probabilities)
        metrics = {
            "accuracy": hits.sum() / support.sum(),
            "balanced_accuracy": per_class["recall"].mean(),
            "auroc": auroc,
            "auprc": auprc,
            "f1": per_class["f1"].mean(),
            "mcc": multiclass_matthews_corrcoef(
                probabilities.argmax(1), labels, probabilities.shape[1], validate_args=False
            ),
            "ece": self.calibration(False).error,
            "ece_scaled": self.calibration(True).error,
            "brier": brier_score(self.probabilities, self.labels),
            "brier_scaled": brier_score(self.scaled, self.labels),
        }
        if self.detected is not None:
            positive = self.is_positive
            metrics["sensitivity"] = _mean(self.detected[positive])
            metrics["specificity"] = _mean(~self.detected[~positive])
        return {name: float(metrics[name]) for name in PUBLICATION_METRICS if name in metrics}

    def _ranking(self, labels: torch.Tensor, probabilities: torch.Tensor) -> tuple[float, float]:
        """Return AUROC and AUPRC: means over the classes that some, but not all images have."""
        found = []
        for number in range(probabilities.shape[1]) if self.positive is None else [self.positive]:
            target = (labels == number).long()
            if 0 < target.sum() < len(target):
                scores = probabilities[:, number]
                found.append(
                    (
                        float(binary_auroc(scores, target, validate_args=False)),
                        float(binary_average_precision(scores, target, validate_args=False)),
                    )
                )
        auroc, auprc = np.mean(found, axis=0) if found else (math.nan, math.nan)
        return float(auroc), float(auprc)


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean squared error of the probabilities (Brier 1950), of two classes that of one of them."""
    target = np.eye(probabilities.shape[1])[labels]
    errors = ((probabilities.astype(np.float64) - target) ** 2).sum(1)
    return float(errors.mean() / (2 if probabilities.shape[1] == 2 else 1))


def _mean(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else math.nan
