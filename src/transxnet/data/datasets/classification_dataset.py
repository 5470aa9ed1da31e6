"""Images with classes, several labels or a number each, and their PyTorch dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.datasets.image_dataset import ImageDataset


@dataclass(frozen=True)
class ClassificationSet(ImageCollection):
    """N labeled images of C classes.

    Attributes:
        labels: labels of the images in the storage: (N,) int class indices; (N, C) float32 with 1 for the classes of an
            image, 0 for the others and NaN for unknown ones (multi-label); or (N,) float32 numbers (regression).
            Regression has one class name, the name of the number.
        weights: confidence in each label, 0 to 1, or None.
    """

    labels: np.ndarray
    weights: np.ndarray | None = None

    @property
    def targets(self) -> str:
        """What the labels are: "classes", "multilabel" or "regression"."""
        if self.labels.dtype.kind != "f":
            return "classes"
        return "multilabel" if self.labels.ndim == 2 else "regression"

    @property
    def own_labels(self) -> np.ndarray:
        """Labels of this set's images."""
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
        if self.targets == "regression":
            return replace(self, class_names=class_names)
        if self.targets == "classes":
            return replace(self, labels=np.array(classes)[self.labels], class_names=class_names)
        labels = np.full((len(self.labels), len(class_names)), np.nan, np.float32)
        labels[:, classes] = self.labels
        return replace(self, labels=labels, class_names=class_names)

    def evaluation_dataset(self, transform: Callable[[Image.Image], Tensor]) -> "ClassificationDataset":
        """Return a dataset of every image once, in order."""
        return ClassificationDataset(self, transform)


class ClassificationDataset(ImageDataset):
    """Transformed images and labels.

    Items: image (3, H, W) float32, label, position. The label is an int; a float32 tensor (C,) for multi-label; or a
    float32 tensor () for regression.
    """

    def __init__(self, images: ClassificationSet, transform: Callable[[Image.Image], Tensor]):
        super().__init__(images)
        self.transform = transform

    def item(self, loaded: Image.Image, position: int) -> tuple[Tensor, Any, int]:
        """Return transformed image, label and position."""
        label = self.images.labels[self.images.indices[position]]
        return (
            self.transform(loaded),
            int(label) if self.images.targets == "classes" else torch.as_tensor(label),
            position,
        )
