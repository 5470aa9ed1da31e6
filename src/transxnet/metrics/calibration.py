"""Calibration of a classifier's probabilities."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """Accuracy of a classifier by confidence, in the B bins that are not empty (Guo et al. 2017).

    Attributes:
        confidence: (B,) mean of the highest probability, or of that of each label.
        accuracy: (B,) share of correct predictions, or of true labels.
        share: (B,) share of all images or labels.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error (ECE)."""
        return float((self.share * np.abs(self.accuracy - self.confidence)).sum())


def calibration_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = 10) -> Calibration:
    """Compute accuracy by confidence, in bins of equal width.

    torchmetrics' calibration error does not return the bins, and puts a confidence of exactly 1 in a separate bin.

    Args:
        confidence: (N,) highest probability of each image, or probability of each label.
        correct: (N,) whether its class is correct, or the label true.
        bins: number of bins.
    """
    numbers, confidence = bin_numbers(confidence, bins), confidence.astype(np.float64)
    used, own, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    sums = [np.bincount(own, values, minlength=len(used)) for values in (confidence, correct)]
    return Calibration(sums[0] / counts, sums[1] / counts, counts / counts.sum())


def bin_numbers(confidence: np.ndarray, bins: int = 10) -> np.ndarray:
    """Return (N,) numbers from 0 of the bins of equal width; a confidence of 1 is in the last one."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.digitize(confidence.astype(np.float64), edges) - 1, 0, bins - 1)


def squared_errors(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (N,) squared errors of probabilities (N, C), whose mean is the Brier score (Brier 1950).

    Of two classes that of one of them.
    """
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    errors = np.einsum("nc,nc->n", probabilities, probabilities, dtype=np.float64) + 1 - 2 * true
    return errors / (2 if probabilities.shape[1] == 2 else 1)
