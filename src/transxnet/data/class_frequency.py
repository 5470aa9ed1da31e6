"""Number of images or objects of each class, and rare classes."""

from collections.abc import Sequence

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import ImageCollection

MAX_RATIO = 10
"""Ratio of the most frequent class to another above which that class is rare."""


def count_classes(images: ImageCollection) -> np.ndarray | None:
    """Return the number (K,) of images of each class, or of objects; None for values and label maps."""
    count = len(images.class_names)
    if isinstance(images, ClassificationSet) and images.targets == "classes":
        return np.bincount(images.own_labels, minlength=count)
    if isinstance(images, ClassificationSet) and images.targets == "multilabel":
        return (images.own_labels == 1).sum(axis=0)
    if isinstance(images, DetectionSet):
        return np.bincount(np.concatenate([[0], *images.own_labels]).astype(np.int64), minlength=count + 1)[1:]
    return None


def rare_classes(counts: Sequence[int]) -> list[int]:
    """Return the indices of the classes that occur, but less than ``1 / MAX_RATIO`` as often as the most frequent."""
    return [i for i, count in enumerate(counts) if 0 < count * MAX_RATIO < max(counts)]
