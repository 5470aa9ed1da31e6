"""Images with a class, several labels or a value each, and their PyTorch dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.datasets.image_dataset import ImageDataset
from transxnet.data.reading.pixels import Pixels
from transxnet.utils.quantities import format_value

TargetKind = Literal["classes", "multilabel", "regression"]
"""What is predicted for an image: one of C classes, any number of C labels, or a value."""


@dataclass(frozen=True)
class ClassificationSet(ImageCollection):
    """N labeled images.

    Attributes:
        labels: of each image in the storage: int (N,) class indices; float32 (N, C) with 0, 1 or NaN for an unknown
            label; or float32 (N,) values to regress, whose name is the only one of ``class_names``.
        weights: confidence in each label, 0 to 1, or None.
    """

    labels: np.ndarray
    weights: np.ndarray | None = None

    @property
    def targets(self) -> TargetKind:
        """The kind of the labels."""
        if self.labels.ndim == 2:
            return "multilabel"
        return "regression" if self.labels.dtype.kind == "f" else "classes"

    @property
    def own_labels(self) -> np.ndarray:
        """Labels of this set's images, as in ``labels``."""
        return self.labels[self.indices]

    @property
    def present_classes(self) -> np.ndarray:
        """Indices of the classes that this set has images of, ascending; none for regression."""
        if self.targets == "regression":
            return np.zeros(0, int)
        return (
            np.unique(self.own_labels) if self.targets == "classes" else np.flatnonzero((self.own_labels == 1).any(0))
        )

    @property
    def own_weights(self) -> np.ndarray | None:
        """(N,) weights of this set's images, or None."""
        return None if self.weights is None else self.weights[self.indices]

    def with_classes(self, class_names: list[str], classes: Sequence[int]) -> Self:
        """Return the same images with a model's classes.

        Args:
            class_names: the model's class names.
            classes: for each class of this set, in order, the index of the model's class. Multi-label classes of the
                model that this set lacks are unknown.
        """
        labels = self.labels
        if self.targets == "classes":
            labels = np.array(classes)[labels]
        elif self.targets == "multilabel":
            labels = np.full((len(labels), len(class_names)), np.nan, np.float32)
            labels[:, list(classes)] = self.labels
        return replace(self, labels=labels, class_names=class_names)

    def evaluation_dataset(self, transform: Callable[[Any], Tensor]) -> "ClassificationDataset":
        """Return a dataset of every image once, in order."""
        return ClassificationDataset(self, transform)


def describe_label(label: np.ndarray, class_names: Sequence[str]) -> str:
    """Return a label as text: the name of the class, the names of the positive labels, or the value.

    Args:
        label: () class index, (C,) with 0, 1 or NaN, or () value.
        class_names: C names.
    """
    if label.ndim:
        return ", ".join(name for name, positive in zip(class_names, label, strict=True) if positive == 1) or "no label"
    return class_names[int(label)] if label.dtype.kind in "iu" else format_value(float(label))


class ClassificationDataset(ImageDataset):
    """Transformed images and labels.

    Items: image (C, H, W) float32, label, position. The label is an int, or a float32 tensor (C,) or ().
    """

    def __init__(self, images: ClassificationSet, transform: Callable[[Any], Tensor]):
        super().__init__(images)
        self.transform = transform

    def item(self, loaded: Pixels, position: int) -> tuple[Tensor, int | Tensor, int]:
        """Return transformed image, label and position."""
        label = self.images.labels[self.images.indices[position]]
        target = int(label) if self.images.targets == "classes" else torch.as_tensor(label, dtype=torch.float32)
        return self.transform(loaded), target, position
