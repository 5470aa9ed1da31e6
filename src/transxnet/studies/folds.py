"""The outer folds of a study, which are the test sets of its runs, and the split of each fold."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.split import divide_into_folds, image_strata, split_images, write_split
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic

FOLDS_FILE = "folds.csv"
_COLUMNS = ("name", "label", "group", "fold")

StudyImages = ClassificationSet | DetectionSet | SegmentationSet
"""The images of a study."""


@dataclass(frozen=True)
class Folds:
    """The images of a study and their outer folds.

    Attributes:
        names: N names.
        labels: (N,) class indices, or None without one class per image.
        groups: (N,) group numbers, or None.
        fold: (N,) number of the outer fold, from 1.
    """

    names: list[str]
    labels: np.ndarray | None
    groups: np.ndarray | None
    fold: np.ndarray

    @property
    def count(self) -> int:
        """Number of folds."""
        return int(self.fold.max())

    @property
    def units(self) -> np.ndarray:
        """(N,) what is drawn by the bootstrap: the group of each image, or its index."""
        return np.arange(len(self.names)) if self.groups is None else self.groups

    def outer(self, number: int) -> np.ndarray:
        """Return the indices of the images of an outer fold."""
        return np.flatnonzero(self.fold == number)


def make_folds(images: StudyImages, count: int, seed: int) -> Folds:
    """Divide images into folds: stratified by class or rarest class if they have some, without splitting groups.

    Raises:
        UserError: there are fewer images or groups than folds.
    """
    labels = images.own_labels if isinstance(images, ClassificationSet) else None
    groups = images.own_groups
    groups = None if groups is None else np.unique(groups, return_inverse=True)[1]
    return Folds(images.own_names, labels, groups, 1 + divide_into_folds(image_strata(images), groups, count, seed))


def make_splits(images: StudyImages, folds: Folds, val_fraction: float, seed: int) -> dict[int, dict[str, StudyImages]]:
    """Return the training, validation and test images of each fold; the test images are the outer fold.

    Raises:
        UserError: a part of a fold lacks one of two classes, without which no threshold can be fitted or tested.
    """
    splits: dict[int, dict[str, StudyImages]] = {}
    for number in range(1, folds.count + 1):
        inner = images.subset(np.flatnonzero(folds.fold != number))
        train, val = split_images(inner, val_fraction, seed)
        splits[number] = {"train": train, "val": val, "test": images.subset(folds.outer(number))}
        for part, own in splits[number].items():
            if not isinstance(own, ClassificationSet):
                continue
            absent = np.setdiff1d(np.arange(len(images.class_names)), own.present_classes)
            if len(images.class_names) == 2 and len(absent):
                raise UserError(
                    f"the {part} part of fold {number} has no image of class {images.class_names[absent[0]]!r}. Use "
                    "fewer --folds, a larger --val-fraction or more images."
                )
    return splits


def split_path(folder: Path, number: int) -> Path:
    """Return the file of the split of a fold."""
    return folder / f"split-fold{number}.csv"


def write_folds(folder: Path, folds: Folds, splits: dict[int, dict[str, StudyImages]], class_names: list[str]) -> None:
    """Write the splits, and then the folds."""
    for number, parts in splits.items():
        write_split(split_path(folder, number), {part: images.own_names for part, images in parts.items()})

    def write(temporary: Path) -> None:
        groups = [""] * len(folds.names) if folds.groups is None else folds.groups
        labels = [""] * len(folds.names) if folds.labels is None else [class_names[label] for label in folds.labels]
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(zip(folds.names, labels, groups, folds.fold, strict=True))

    write_atomic(folder / FOLDS_FILE, write)


def read_folds(folder: Path, class_names: list[str]) -> Folds:
    """Read the folds of a study.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / FOLDS_FILE
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = [[row[column] for column in _COLUMNS] for row in csv.DictReader(file)]
        names, labels, groups, fold = (list(column) for column in zip(*rows, strict=True))
        number = {name: i for i, name in enumerate(class_names)}
        return Folds(
            names,
            np.array([number[label] for label in labels]) if any(labels) else None,
            np.array([int(group) for group in groups]) if any(groups) else None,
            np.array([int(each) for each in fold]),
        )
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is damaged or not part of a study: {error}") from error
