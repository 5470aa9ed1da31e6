"""The metrics of a study: of decisions, of scores and of calibration, before and after temperature scaling."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from transxnet.metrics.calibration import Calibration, bin_numbers, calibration_bins, squared_errors
from transxnet.metrics.image_values import ImageValues

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
        scaled: (N, C) the same after temperature scaling; None without a fitted temperature.
        positive: index of the positive class of two; None for more classes.
        detected: (N,) whether the probability of the positive class reaches the fitted threshold; None likewise.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    scaled: np.ndarray | None
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
        scaled, detected = (None if each is None else each[indices] for each in (self.scaled, self.detected))
        return ScoredImages(self.labels[indices], self.probabilities[indices], scaled, self.positive, detected)

    @classmethod
    def concatenate(cls, parts: Sequence["ScoredImages"]) -> "ScoredImages":
        """Return the images of all parts, one part after the other."""
        detected = [part.detected for part in parts if part.detected is not None]
        scaled = [part.scaled for part in parts if part.scaled is not None]
        return cls(
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate(scaled) if scaled else None,
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

    @cached_property
    def values(self) -> ImageValues:
        """The values of each image from which the metrics are computed."""
        kinds = [self.probabilities] if self.scaled is None else [self.probabilities, self.scaled]
        num_classes = self.probabilities.shape[1]
        ranked = list(range(num_classes)) if self.positive is None else [self.positive]
        return ImageValues(
            num_classes,
            ranked,
            self.labels,
            self.probabilities.argmax(1),
            np.stack([kind.max(1).astype(np.float64) for kind in kinds], axis=1),
            np.stack([bin_numbers(kind.max(1)) for kind in kinds], axis=1),
            np.stack([squared_errors(kind, self.labels) for kind in kinds], axis=1),
            self.probabilities[:, ranked],
            self.detected,
            None if self.positive is None else self.is_positive,
        )

    def calibration(self, scaled: bool) -> Calibration:
        """Return accuracy by confidence, before or after temperature scaling."""
        return calibration_bins(self.values.confidence[:, int(scaled)], self.correct)

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of ``PUBLICATION_METRICS``; NaN where a class that they need is absent."""
        metrics = self.values.metrics()
        return {name: metrics[name] for name in PUBLICATION_METRICS if name in metrics}
