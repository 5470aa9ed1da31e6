"""Classification metrics, from a classifier's probabilities."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_stat_scores

from transxnet.metrics.binary_curves import BinaryCurves, positive_class
from transxnet.metrics.calibration import Calibration, calibration_bins
from transxnet.metrics.count_metrics import class_metrics_from_counts
from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.metrics.image_values import ImageValues
from transxnet.metrics.intervals import MAX_RANKED, Resampled
from transxnet.metrics.publication_metrics import ScoredImages

TOP = 5
"""k of the top-k accuracy, which is computed with more than k classes."""


@dataclass(frozen=True)
class ClassificationEvaluation(Resampled):
    """A classifier's results on N images of C classes.

    Attributes:
        class_names: C names, by class index.
        names: N image names.
        labels: (N,) true class indices.
        probabilities: (N, C) softmax outputs.
        weights: (N,) confidence in each label, 0 to 1, if the data has it; else None.
        groups: (N,) group of each image, such as its patient, if the data has it; else None.
        choices: what was fitted on validation images; None if nothing was.
        chosen_positive: index of the positive class of two, if it was chosen before; else None.
    """

    class_names: list[str]
    names: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None
    choices: FittedChoices | None = None
    chosen_positive: int | None = None

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

    @cached_property
    def values(self) -> ImageValues:
        """The values of each image from which the metrics are computed."""
        images = ScoredImages(self.labels, self.probabilities, None, self.positive)
        values = (images if self.choices is None else self.scored(self.choices)).values
        if len(self.class_names) <= TOP:
            return replace(values, weights=self.weights)
        top = torch.from_numpy(self.probabilities).topk(TOP).indices.numpy()
        return replace(values, in_top=(top == self.labels[:, None]).any(axis=1), weights=self.weights)

    def scored(self, choices: FittedChoices) -> ScoredImages:
        """Return the predictions with the choices of validation images applied."""
        return choices.apply(self.labels, self.probabilities)

    def metrics(self) -> dict[str, float]:
        """Compute the metrics of :class:`ImageValues`, without those that are not defined for these labels.

        All are from 0 to 1 but MCC, which is from -1. Top-5 accuracy needs more than 5 classes; weighted accuracy
        weights; sensitivity, specificity and the calibration after temperature scaling need fitted choices.
        """
        return dict(self._metrics)

    @cached_property
    def _metrics(self) -> dict[str, float]:
        """The metrics; the AUROC of 1,000 classes takes seconds."""
        return {name: value for name, value in self.values.metrics().items() if not math.isnan(value)}

    def resampler(self) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return the metrics as a function of the indices of drawn images."""
        values = self.values if self.values.scores.size <= MAX_RANKED else self.values.without_ranking()
        return lambda indices: values.take(indices).metrics()

    def describe_fitted(self, fitted_here: bool) -> list[str]:
        """Return sentences about the threshold of two classes and the temperature."""
        if self.choices is None:
            return []
        where = "these images, so its metrics are optimistic here" if fitted_here else "the validation images"
        sentences = [f"Temperature {self.choices.temperature:.2f} of the scaling: fitted on {where}."]
        if self.choices.positive is not None:
            name = self.class_names[self.choices.positive]
            sentences.insert(
                0,
                f"Threshold of sensitivity and specificity: probability of {name} of {self.choices.threshold:.3g}, "
                f"the highest Youden index on {where}.",
            )
        return sentences

    def per_class(self) -> dict[str, np.ndarray]:
        """Compute (C,) precision, recall, f1 and support (the number of images) of each class."""
        pair = self._predictions(), torch.from_numpy(self.labels)
        counts = multiclass_stat_scores(*pair, num_classes=len(self.class_names), average=None)
        return class_metrics_from_counts(counts.numpy())

    def calibration(self, scaled: bool = False) -> Calibration:
        """Return accuracy by confidence, before or after temperature scaling."""
        return calibration_bins(self.values.confidence[:, int(scaled)], self.correct)

    @property
    def temperature(self) -> float | None:
        """The fitted temperature; None if nothing was fitted."""
        return None if self.choices is None else self.choices.temperature

    def fitted_thresholds(self) -> dict[str, Any]:
        """Return the name of the positive class of two and its fitted threshold, as plain data."""
        if self.choices is None or self.choices.positive is None:
            return {}
        return {"positive": self.class_names[self.choices.positive], "threshold": self.choices.threshold}

    @property
    def positive(self) -> int | None:
        """Index of the positive class of two: the fitted or chosen one, or the less frequent one, the second if equal.

        None for other numbers of classes, and if nothing is fitted and only one class occurs in the labels.
        """
        if self.choices is not None and self.choices.positive is not None:
            return self.choices.positive
        if len(self.class_names) != 2 or len(np.unique(self.labels)) < 2:
            return None
        return positive_class(self.labels) if self.chosen_positive is None else self.chosen_positive

    def binary_curves(self) -> BinaryCurves | None:
        """Return the curves of the positive class; None unless there are two classes that both occur in the labels."""
        positive = self.positive
        if positive is None or len(np.unique(self.labels)) < 2:
            return None
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
