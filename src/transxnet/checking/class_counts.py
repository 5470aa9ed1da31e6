"""Number of images or objects of each class in each set, and imbalance."""

import numpy as np

from transxnet.checking.all_images import AllImages
from transxnet.checking.check_findings import DataFinding, Kind
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import ImageCollection

MAX_RATIO = 10
"""Ratio of the most frequent class to another above which the imbalance is reported."""


def class_counts(images: AllImages) -> dict[str, list[int]]:
    """Return the number of images of each class, or of objects, in each set; empty for values and label maps."""
    columns = {name: _counts(part) for name, part in images.sets.items()}
    return {name: counts.tolist() for name, counts in columns.items() if counts is not None}


def imbalance_findings(counts: dict[str, list[int]], class_names: list[str]) -> list[DataFinding]:
    """Return the findings about classes that are missing in a set, or rare in the training set."""
    found = []
    for part, values in counts.items():
        missing = [name for name, count in zip(class_names, values, strict=True) if not count]
        if missing and any(values):
            found.append(DataFinding(Kind.IMBALANCE, (), f"{part} has no {', '.join(missing)}"))
    train = counts.get("train", [])
    for name, count in zip(class_names, train, strict=bool(train)):
        if 0 < count * MAX_RATIO < max(train):
            most = class_names[int(np.argmax(train))]
            detail = f"{name} occurs {count:,} times in train, {most} {max(train):,} times ({max(train) / count:.0f}:1)"
            found.append(DataFinding(Kind.IMBALANCE, (), detail))
    return found


def _counts(images: ImageCollection) -> np.ndarray | None:
    count = len(images.class_names)
    if isinstance(images, ClassificationSet) and images.targets == "classes":
        return np.bincount(images.own_labels, minlength=count)
    if isinstance(images, ClassificationSet) and images.targets == "multilabel":
        return (images.own_labels == 1).sum(axis=0)
    if isinstance(images, DetectionSet):
        return np.bincount(np.concatenate([[0], *images.own_labels]).astype(np.int64), minlength=count + 1)[1:]
    return None
