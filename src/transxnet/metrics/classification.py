"""Classification metrics, from a classifier's probabilities."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import binned_statistic, binomtest
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)


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
        return multiclass_confusion_matrix(*self._tensors(), num_classes=len(self.class_names)).numpy()

    def metrics(self) -> dict[str, float]:
        """Compute metrics from 0 to 1: accuracy, top-5 (with more than 5 classes), balanced accuracy and macro F1.

        With weights also the weighted accuracy. Balanced accuracy and F1 are means over the classes that occur in the
        labels. ``majority`` is the accuracy of always predicting the most frequent class.
        """
        num_classes = len(self.class_names)
        probabilities, labels = torch.from_numpy(self.probabilities), torch.from_numpy(self.labels)
        counts = np.bincount(self.labels, minlength=num_classes)
        per_class = self.per_class()
        seen = counts > 0
        metrics = {
            "accuracy": float(self.correct.mean()),
            "balanced_accuracy": float(per_class["recall"][seen].mean()),
            "f1": float(per_class["f1"][seen].mean()),
            "majority": float(counts.max() / counts.sum()),
        }
        if num_classes > 5:
            top5 = multiclass_accuracy(probabilities, labels, num_classes=num_classes, average="micro", top_k=5)
            metrics["top5_accuracy"] = float(top5)
        if self.weights is not None:
            metrics["weighted_accuracy"] = float(np.average(self.correct, weights=self.weights))
        return metrics

    def per_class(self) -> dict[str, np.ndarray]:
        """Compute (C,) precision, recall, f1 and support (the number of images) of each class."""
        num_classes = len(self.class_names)
        functions = dict(precision=multiclass_precision, recall=multiclass_recall, f1=multiclass_f1_score)
        result = {
            name: function(*self._tensors(), num_classes=num_classes, average=None).numpy()
            for name, function in functions.items()
        }
        return result | {"support": np.bincount(self.labels, minlength=num_classes)}

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

    def most_confident(self, count: int, correct: bool) -> np.ndarray:
        """Return indices of the correct or the wrong predictions with the highest confidence, highest first."""
        indices = np.flatnonzero(self.correct == correct)
        return indices[np.argsort(-self.confidence[indices], kind="stable")][:count]

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.predictions), torch.from_numpy(self.labels)
