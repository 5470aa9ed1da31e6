"""ROC and precision-recall curve of a class, and thresholds on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
    binary_roc,
)

from transxnet.utils.errors import UserError, check_one_of


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

        It predicts at least one image as positive, and lies halfway between two probabilities, so that rounding does
        not change predictions.
        """
        false_positives, recall, thresholds = self.roc()
        best = 1 + int(np.argmax((recall - false_positives)[1:]))
        below = thresholds[best + 1] if best + 1 < len(thresholds) else 0.0
        return (float(thresholds[best]) + float(below)) / 2

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


def choose_positive(class_names: Sequence[str], labels: np.ndarray | None, given: str | None) -> str | None:
    """Return the name of the positive class of two.

    Args:
        class_names: names of the classes; without any for data without one class per image.
        labels: (N,) class indices, of which the less frequent one is the default; None if unknown.
        given: name of the class, or None.

    Raises:
        UserError: a name is given although there are not two classes, or it is not the name of a class.
    """
    if len(class_names) != 2:
        if given is None:
            return None
        got = f", got {len(class_names)} classes" if class_names else ""
        raise UserError(f"--positive is for a classifier of two classes{got}. Remove --positive.")
    if given is not None:
        check_one_of(class_names, positive=given)
        return given
    return None if labels is None else class_names[positive_class(labels)]


def positive_class(labels: np.ndarray) -> int:
    """Return the less frequent class of two, the second if both are as frequent, from (N,) class indices."""
    counts = np.bincount(labels, minlength=2)
    return 0 if counts[0] < counts[1] else 1
