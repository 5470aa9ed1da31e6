"""The three kinds of targets of a classifier: how its logits are read and evaluated."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from transxnet.data.datasets.classification_dataset import TargetKind
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.metrics.regression import RegressionEvaluation
from transxnet.metrics.temperature import LIMITS

ClassifierEvaluation = ClassificationEvaluation | MultiLabelEvaluation | RegressionEvaluation
"""A classifier's results."""


@dataclass(frozen=True)
class Targets(ABC):
    """What a classifier predicts; stored with its weights and in exported files."""

    kind: ClassVar[TargetKind]

    @abstractmethod
    def activate(self, logits: Tensor) -> Tensor:
        """Convert logits (N, C) to outputs (N, C): probabilities, or values in the unit of the targets."""

    def evaluate(
        self,
        class_names: list[str],
        names: list[str],
        labels: np.ndarray,
        outputs: np.ndarray,
        weights: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> Any:
        """Return the evaluation of outputs (N, C) for N images with these names, labels, weights and groups."""
        return self.evaluation(class_names, names, labels, outputs, weights=weights, groups=groups)

    @property
    @abstractmethod
    def evaluation(self) -> Callable[..., Any]:
        """The class of the evaluation with the settings of these targets."""

    def fit(self, evaluation: Any) -> tuple["Targets", Any]:
        """Return the targets and the evaluation with the settings that are chosen on the validation images."""
        return self, evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return the kind and the settings as plain data."""
        return {"kind": self.kind, **{name: value for name, value in asdict(self).items() if value is not None}}

    @staticmethod
    def from_dict(values: Mapping[str, Any], num_classes: int) -> "Targets":
        """The inverse of :meth:`to_dict`, for a classifier of C classes.

        Raises:
            KeyError, TypeError, ValueError: the content is not valid; the file may be untrusted.
        """
        settings = dict(values)
        targets = _KINDS[settings.pop("kind")](**settings)
        targets.check(num_classes)
        return targets

    def check(self, num_classes: int) -> None:
        """Raise ValueError for settings that training never writes."""
        return


@dataclass(frozen=True)
class ClassTargets(Targets):
    """One of C classes for each image.

    Attributes:
        temperature: temperature of the probabilities, fitted on validation images; None before it is.
        positive: index of the positive class of two; None for other numbers of classes, or if it is not chosen.
        threshold: smallest probability of the positive class that counts as positive; None likewise.
    """

    kind = "classes"
    temperature: float | None = None
    positive: int | None = None
    threshold: float | None = None

    @property
    def choices(self) -> FittedChoices | None:
        """What was fitted on validation images; None if nothing was."""
        return None if self.temperature is None else FittedChoices(self.temperature, self.positive, self.threshold)

    def activate(self, logits: Tensor) -> Tensor:
        """Return softmax probabilities."""
        return logits.softmax(dim=1)

    @property
    def evaluation(self) -> Callable[..., ClassificationEvaluation]:
        """Evaluation of probabilities (N, C) with the fitted choices."""
        return partial(ClassificationEvaluation, choices=self.choices, chosen_positive=self.positive)

    def fit(self, evaluation: ClassificationEvaluation) -> tuple["ClassTargets", ClassificationEvaluation]:
        """Fit the temperature and, of two classes, the threshold of the highest Youden index."""
        choices = FittedChoices.fit(evaluation.labels, evaluation.probabilities, evaluation.positive)
        return ClassTargets(**asdict(choices)), replace(evaluation, choices=choices)

    def check(self, num_classes: int) -> None:
        """Raise ValueError unless temperature and threshold are in their ranges, and the threshold has a class."""
        _check_temperature(self.temperature)
        if (self.threshold is None) != (self.positive is None or self.temperature is None):
            raise ValueError("threshold and positive class belong together")
        if self.positive is not None and not (num_classes == 2 and self.positive in (0, 1)):
            raise ValueError("a positive class needs two classes, of which it is one")
        if self.threshold is not None and not 0 <= float(self.threshold) <= 1 + 1e-6:
            raise ValueError("threshold is not a probability")


CLASSES = ClassTargets()


@dataclass(frozen=True)
class MultiLabelTargets(Targets):
    """Any number of C labels for each image.

    Attributes:
        thresholds: smallest probability of each class at which its label is predicted.
        temperature: temperature of the probabilities, fitted on validation images; None before it is.
    """

    kind = "multilabel"
    thresholds: Sequence[float]
    temperature: float | None = None

    def activate(self, logits: Tensor) -> Tensor:
        """Return sigmoid probabilities."""
        return logits.sigmoid()

    @property
    def evaluation(self) -> Callable[..., MultiLabelEvaluation]:
        """Evaluation of probabilities (N, C) at the thresholds."""
        return partial(MultiLabelEvaluation, thresholds=np.array(self.thresholds), temperature=self.temperature)

    def fit(self, evaluation: MultiLabelEvaluation) -> tuple["MultiLabelTargets", MultiLabelEvaluation]:
        """Fit the thresholds of the highest F1 of each class, and the temperature."""
        fitted = evaluation.fitted()
        return MultiLabelTargets(fitted.thresholds.tolist(), fitted.temperature), fitted

    def check(self, num_classes: int) -> None:
        """Raise ValueError unless there is a threshold for each class, and the temperature is in its range."""
        if len(self.thresholds) != num_classes or not all(0 <= float(value) <= 1 for value in self.thresholds):
            raise ValueError("thresholds are not one probability for each class")
        _check_temperature(self.temperature)


@dataclass(frozen=True)
class RegressionTargets(Targets):
    """A value for each image, standardized for training.

    Attributes:
        mean: mean of the training targets.
        std: their standard deviation.
    """

    kind = "regression"
    mean: float
    std: float

    def activate(self, logits: Tensor) -> Tensor:
        """Return values in the unit of the targets."""
        return logits * self.std + self.mean

    @property
    def evaluation(self) -> Callable[..., RegressionEvaluation]:
        """Evaluation of values (N, 1)."""
        return lambda class_names, names, labels, outputs, weights, groups: RegressionEvaluation(
            class_names, names, labels, outputs[:, 0], weights, groups
        )

    def check(self, num_classes: int) -> None:
        """Raise ValueError unless there is one output, and mean and standard deviation are finite."""
        if num_classes != 1 or not np.isfinite([float(self.mean), float(self.std)]).all():
            raise ValueError("regression needs one name, and a finite mean and std")


_KINDS: dict[str, Any] = {targets.kind: targets for targets in (ClassTargets, MultiLabelTargets, RegressionTargets)}


def _check_temperature(temperature: float | None) -> None:
    if temperature is not None and not LIMITS[0] <= float(temperature) <= LIMITS[1]:
        raise ValueError(f"temperature is not {LIMITS[0]} to {LIMITS[1]}")


def targets_of(
    kind: TargetKind,
    class_names: Sequence[str],
    labels: np.ndarray | None,
    weights: np.ndarray | None = None,
    positive: str | None = None,
) -> Targets:
    """Return the targets of training labels, before thresholds are chosen.

    Args:
        kind: kind of the labels.
        class_names: C names.
        labels: training labels; may be None for classes.
        weights: (N,) weights of the training images in the loss; None for equal weights.
        positive: name of the positive class of two; None for other numbers of classes.
    """
    if kind == "multilabel":
        return MultiLabelTargets([0.5] * len(class_names))
    if kind == "regression":
        assert labels is not None
        values = labels.astype(np.float64)
        mean = np.average(values, weights=weights)
        std = np.sqrt(np.average((values - mean) ** 2, weights=weights))
        return RegressionTargets(float(mean), float(std) or 1.0)
    return CLASSES if positive is None else ClassTargets(positive=class_names.index(positive))
