"""What a classifier did on a set of images, and every figure that follows from it."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from transxnet.utils.files import write_atomic


@dataclass(frozen=True)
class Evaluation:
    """The classifier's answers on N images of C classes.

    Attributes:
        class_names: C names, by class index.
        names: N image names, as a person would look them up.
        labels: (N,) true class indices.
        probabilities: (N, C) softmax outputs.
        weights: (N,) how far each label can be trusted, 0 to 1, where the data says so; else None.
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
    def confusion(self) -> np.ndarray:
        """(C, C) counts, true class by row, predicted by column."""
        return multiclass_confusion_matrix(*self._tensors(), num_classes=len(self.class_names)).numpy()

    def metrics(self) -> dict[str, float]:
        """Figures between 0 and 1: accuracy, top-5 where there are more than 5 classes, balanced accuracy, macro F1.

        With weights also the weighted accuracy. Balanced accuracy and F1 are means over the classes that occur among
        the labels. ``majority`` is what always saying the commonest class would give.
        """
        num_classes = len(self.class_names)
        probabilities, labels = torch.from_numpy(self.probabilities), torch.from_numpy(self.labels)
        right = self.predictions == self.labels
        counts = np.bincount(self.labels, minlength=num_classes)
        per_class = self.per_class()
        seen = counts > 0
        figures = {
            "accuracy": float(right.mean()),
            "balanced_accuracy": float(per_class["recall"][seen].mean()),
            "f1": float(per_class["f1"][seen].mean()),
            "majority": float(counts.max() / counts.sum()),
        }
        if num_classes > 5:
            top5 = multiclass_accuracy(probabilities, labels, num_classes=num_classes, average="micro", top_k=5)
            figures["top5_accuracy"] = float(top5)
        if self.weights is not None:
            figures["weighted_accuracy"] = float(np.average(right, weights=self.weights))
        return figures

    def per_class(self) -> dict[str, np.ndarray]:
        """(C,) precision, recall, f1 and support (the number of images) of each class."""
        num_classes = len(self.class_names)
        figures = dict(precision=multiclass_precision, recall=multiclass_recall, f1=multiclass_f1_score)
        result = {
            name: figure(*self._tensors(), num_classes=num_classes, average=None).numpy()
            for name, figure in figures.items()
        }
        return result | {"support": np.bincount(self.labels, minlength=num_classes)}

    def worst_mistakes(self, count: int) -> np.ndarray:
        """Indices of the wrong answers that were given with the greatest certainty, most certain first."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        return wrong[np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")][:count]

    def surest_right(self, count: int) -> np.ndarray:
        """Indices of the right answers that were given with the greatest certainty, most certain first."""
        right = np.flatnonzero(self.predictions == self.labels)
        return right[np.argsort(-self.probabilities[right].max(axis=1), kind="stable")][:count]

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(self.predictions), torch.from_numpy(self.labels)


def write_evaluation(path: Path, evaluation: Evaluation) -> None:
    """Write what was said of each labelled image: a CSV of name, label, prediction and its probability."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "label", "predicted", "probability"])
    names = evaluation.class_names
    for name, label, predicted, row in zip(
        evaluation.names, evaluation.labels, evaluation.predictions, evaluation.probabilities, strict=True
    ):
        writer.writerow([name, names[label], names[predicted], f"{row[predicted]:.6f}"])
    write_atomic(path, text.getvalue())
