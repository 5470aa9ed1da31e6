"""Images with one class each, and their PyTorch dataset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from PIL import Image
from torch import Tensor

from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.datasets.image_dataset import ImageDataset


@dataclass(frozen=True)
class ClassificationSet(ImageCollection):
    """N labeled images of K classes.

    Attributes:
        labels: class index of each image in the storage.
        weights: confidence in each label, 0 to 1, or None.
    """

    labels: np.ndarray
    weights: np.ndarray | None = None

    @property
    def own_labels(self) -> np.ndarray:
        """(N,) class indices of this set's images."""
        return self.labels[self.indices]

    @property
    def own_weights(self) -> np.ndarray | None:
        """(N,) weights of this set's images, or None."""
        return None if self.weights is None else self.weights[self.indices]

    def with_classes(self, class_names: list[str], classes: Sequence[int]) -> Self:
        """Return the same images with a model's classes.

        Args:
            class_names: the model's class names.
            classes: for each class of this set, in order, the index of the model's class.
        """
        return replace(self, labels=np.array(classes)[self.labels], class_names=class_names)

    def evaluation_dataset(self, transform: Callable[[Image.Image], Tensor]) -> "ClassificationDataset":
        """Return a dataset of every image once, in order."""
        return ClassificationDataset(self, transform)


class ClassificationDataset(ImageDataset):
    """Transformed images and labels.

    Items: image (3, H, W) float32, label, position.
    """

    def __init__(self, images: ClassificationSet, transform: Callable[[Image.Image], Tensor]):
        super().__init__(images)
        self.transform = transform

    def item(self, loaded: Image.Image, position: int) -> tuple[Tensor, int, int]:
        """Return transformed image, label and position."""
        return self.transform(loaded), int(self.images.labels[self.images.indices[position]]), position
