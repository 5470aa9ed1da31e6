"""The columns of a classifier's predictions in CSV and Parquet, and their entries in JSON Lines."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transxnet.metrics.targets import MultiLabelTargets, RegressionTargets, Targets
from transxnet.prediction.image_results import (
    Classification,
    ClassProbabilities,
    ImagePrediction,
    MultiLabelClassification,
    Regression,
)
from transxnet.utils.quantities import format_value

LABEL_SEPARATOR = ";"
"""Between the labels of an image in CSV."""


class ClassifierTable(ABC):
    """How the predictions of a kind of targets are stored.

    Attributes:
        columns: names and Arrow types of the columns between ``path`` and ``error``.
        counted: what :meth:`summary` counts.
        number: format of a number in CSV.
    """

    columns: Sequence[tuple[str, str]]
    counted: str
    number = ".6f"

    @abstractmethod
    def values(self, prediction: Any) -> list[Any]:
        """Return the values of the columns for an image."""

    @abstractmethod
    def entry(self, prediction: Any) -> dict[str, Any]:
        """Return the content of an image's line in JSON Lines."""

    @abstractmethod
    def from_entry(self, path: str, entry: Mapping[str, Any]) -> ImagePrediction:
        """The inverse of :meth:`entry`."""

    @abstractmethod
    def from_row(self, path: str, row: Mapping[str, Any]) -> ImagePrediction:
        """The inverse of :meth:`values`, by name."""

    @abstractmethod
    def summary(self, prediction: Any) -> tuple[str, list[str]]:
        """Return an image's prediction in words, and the class names to count over all images."""

    def cells(self, prediction: ImagePrediction | None) -> list[str]:
        """Return the cells of an image in CSV; empty ones for an unreadable image."""
        if prediction is None:
            return [""] * len(self.columns)
        return [self._cell(value) for value in self.values(prediction)]

    def _cell(self, value: Any) -> str:
        if isinstance(value, list):
            return LABEL_SEPARATOR.join(value)
        return value if isinstance(value, str) else format(value, self.number)


class TopClassesTable(ClassifierTable):
    """The most probable classes of each image.

    Args:
        k: number of classes.
    """

    counted = "predicted classes"

    def __init__(self, k: int):
        self.k = k
        self.columns = [
            column for i in range(1, k + 1) for column in ((f"class{i}", "string"), (f"probability{i}", "float32"))
        ]

    def values(self, prediction: Classification) -> list[Any]:
        """Return names and probabilities, alternating."""
        return [value for pair in prediction.top(self.k) for value in pair]

    def entry(self, prediction: Classification) -> dict[str, Any]:
        """Return the classes as a list of names and probabilities."""
        return {"top": [{"class": name, "probability": round(p, 6)} for name, p in prediction.top(self.k)]}

    def from_entry(self, path: str, entry: Mapping[str, Any]) -> Classification:
        """Return the stored classes only."""
        return self._classes(path, [(each["class"], each["probability"]) for each in entry["top"]])

    def from_row(self, path: str, row: Mapping[str, Any]) -> Classification:
        """Return the stored classes only."""
        return self._classes(path, [(row[f"class{i}"], row[f"probability{i}"]) for i in range(1, self.k + 1)])

    def summary(self, prediction: Classification) -> tuple[str, list[str]]:
        """Return the first three classes, and the first one to count."""
        top = prediction.top(self.k)
        return ", ".join(f"{name} {probability:.1%}" for name, probability in top[:3]), [name for name, _ in top[:1]]

    def _classes(self, path: str, top: Sequence[tuple[str, float]]) -> Classification:
        names, probabilities = zip(*top, strict=True)
        return Classification(list(names), path, np.array(probabilities, np.float32))


class LabelsTable(ClassifierTable):
    """The predicted labels of each image and all probabilities.

    Args:
        class_names: C names.
        thresholds: (C,) thresholds of the labels.
    """

    counted = "predicted labels"

    def __init__(self, class_names: Sequence[str], thresholds: Sequence[float]):
        self.class_names, self.thresholds = list(class_names), np.array(thresholds)
        self.columns = [("labels", "list<string>"), *((f"probability_{name}", "float32") for name in class_names)]

    def values(self, prediction: MultiLabelClassification) -> list[Any]:
        """Return the labels and the probability of each class."""
        return [prediction.labels, *prediction.probabilities.tolist()]

    def entry(self, prediction: MultiLabelClassification) -> dict[str, Any]:
        """Return the labels and the probabilities by name."""
        pairs = zip(self.class_names, prediction.probabilities.tolist(), strict=True)
        return {"labels": prediction.labels, "probabilities": {name: round(value, 6) for name, value in pairs}}

    def from_entry(self, path: str, entry: Mapping[str, Any]) -> MultiLabelClassification:
        """Return the stored probabilities with the thresholds."""
        return self._labels(path, [entry["probabilities"][name] for name in self.class_names])

    def from_row(self, path: str, row: Mapping[str, Any]) -> MultiLabelClassification:
        """Return the stored probabilities with the thresholds."""
        return self._labels(path, [row[f"probability_{name}"] for name in self.class_names])

    def summary(self, prediction: ClassProbabilities) -> tuple[str, list[str]]:
        """Return the labels with their probabilities, and the labels to count."""
        assert isinstance(prediction, MultiLabelClassification)
        labels = prediction.labels
        return ", ".join(f"{name} {p:.1%}" for name, p in prediction.top(len(labels))) or "no label", labels

    def _labels(self, path: str, probabilities: Sequence[float]) -> MultiLabelClassification:
        return MultiLabelClassification(self.class_names, path, np.array(probabilities, np.float32), self.thresholds)


class ValueTable(ClassifierTable):
    """The predicted value of each image, in the column ``value``.

    Args:
        name: name of the target.
    """

    columns = (("value", "float32"),)
    counted = ""
    number = ".7g"

    def __init__(self, name: str):
        self.name = name

    def values(self, prediction: Regression) -> list[Any]:
        """Return the value."""
        return [prediction.value]

    def entry(self, prediction: Regression) -> dict[str, Any]:
        """Return the value."""
        return {"value": prediction.value}

    def from_entry(self, path: str, entry: Mapping[str, Any]) -> Regression:
        """Return the stored value."""
        return Regression([self.name], path, entry["value"])

    def from_row(self, path: str, row: Mapping[str, Any]) -> Regression:
        """Return the stored value."""
        return self.from_entry(path, row)

    def summary(self, prediction: Regression) -> tuple[str, list[str]]:
        """Return name and value; nothing is counted."""
        return f"{self.name} {format_value(prediction.value)}", []


def classifier_table(targets: Targets, class_names: Sequence[str], top_k: int) -> ClassifierTable:
    """Return the table of a classifier.

    Args:
        targets: what it predicts.
        class_names: C names.
        top_k: number of stored classes per image, if they exclude each other.
    """
    if isinstance(targets, MultiLabelTargets):
        return LabelsTable(class_names, targets.thresholds)
    if isinstance(targets, RegressionTargets):
        return ValueTable(class_names[0])
    return TopClassesTable(min(top_k, len(class_names)))
