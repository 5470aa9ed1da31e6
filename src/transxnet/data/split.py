"""Split images into a training and a validation set, reproducibly."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic

C = TypeVar("C", ClassificationSet, DetectionSet, SegmentationSet)


def split_images(
    images: C, fraction: float, seed: int, stored: Path | None = None, strata: np.ndarray | None = None
) -> tuple[C, C]:
    """Split images into a training and a validation set.

    Args:
        images: all images.
        fraction: fraction of the images to validate on; 0 for an empty validation set.
        seed: seed of the split.
        stored: file of an earlier split to use instead.
        strata: what to stratify by; by default each image's class, or its rarest object class. Label maps are not
            stratified.

    Raises:
        UserError: there are too few images to split, or images of the stored split are missing.
    """
    if stored is not None:
        parts = read_split(stored, images.own_names)
        return images.subset(parts["train"]), images.subset(parts["val"])
    if fraction == 0:
        return images, images.subset(np.array([], int))
    train, val = stratified_split(_strata(images) if strata is None else strata, fraction, seed)
    if not len(val):
        if isinstance(images, ClassificationSet):
            raise UserError(
                "every class has only one image, so no validation set can be split off. Add at least one image."
            )
        train, val = stratified_split(np.zeros(len(images), int), fraction, seed)
    if not len(val):
        raise UserError(f"a validation set needs at least two images in total, got {len(images)}.")
    return images.subset(train), images.subset(val)


def _strata(images: ClassificationSet | DetectionSet | SegmentationSet) -> np.ndarray:
    if isinstance(images, ClassificationSet):
        return images.own_labels
    if isinstance(images, SegmentationSet):
        return np.zeros(len(images), int)
    labels = images.own_labels
    counts = np.bincount(np.concatenate([[0], *labels]).astype(int), minlength=len(images.class_names) + 1)
    return np.array([int(own[counts[own].argmin()]) if len(own) else 0 for own in labels])


def stratified_split(strata: Sequence | np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split off the same fraction of every stratum, as nearly as whole items allow.

    scikit-learn's split draws other images, which would change the published split of the samples, and rejects strata
    of one item.

    Args:
        strata: (N,) or (N, k) what to stratify by: the class, or (class, type) and so on.
        fraction: fraction of all items to validate on, between 0 and 1. A stratum of two or more items gives at least
            one and never all. The rest from rounding goes to the strata that are furthest below their share.
        seed: seed of the split; the same items in the same order give the same split.

    Returns:
        Training and validation positions, ascending.
    """
    _, group = np.unique(np.asarray(strata), axis=0, return_inverse=True)
    generator = np.random.default_rng(seed)
    group = group.ravel()  # NumPy 2.0 returns it in the shape of the rows
    sizes = np.bincount(group)
    counts = np.clip((sizes * fraction).astype(int), np.minimum(1, sizes - 1), sizes - 1)
    left = max(0, round(len(group) * fraction) - counts.sum())
    furthest_below = np.argsort(counts - sizes * fraction, kind="stable")
    counts[[g for g in furthest_below if counts[g] < sizes[g] - 1][:left]] += 1
    validation = np.zeros(len(group), bool)
    for g, count in enumerate(counts):
        validation[generator.permutation(np.flatnonzero(group == g))[:count]] = True
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def write_split(path: Path, parts: Mapping[str, Iterable[str]]) -> None:
    """Write the split as a CSV of image name and part."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "part"])
            for part, names in parts.items():
                writer.writerows((name, part) for name in names)

    write_atomic(path, write)


def _rows(file: TextIO, path: Path) -> Iterator[dict[str, str]]:
    try:
        yield from csv.DictReader(file)
    except csv.Error as error:
        raise UserError(
            f"cannot read the split {path}: {error}. Accepted: columns name and part, with part train or val."
        ) from error


def split_names(path: Path) -> list[str]:
    """Names of all images of a stored split; none if the file is not a split."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [row["name"] for row in _rows(file, path) if row.get("name")]


def read_split(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read the positions in ``names`` of each part of a stored split.

    Raises:
        UserError: images of the split are missing, or the file is not a split.
    """
    position = {name: i for i, name in enumerate(names)}
    parts: dict[str, list[int]] = {"train": [], "val": []}
    missing = []
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for row in _rows(file, path):
            name, part = row.get("name"), row.get("part")
            if name is None or part not in parts:
                raise UserError(
                    f"cannot read the split {path}: got row {row}. Accepted: columns name and part, with part train "
                    "or val."
                )
            if name in position:
                parts[part].append(position[name])
            else:
                missing.append(name)
    if missing:
        raise UserError(
            f"images of the stored split {path} are missing: {len(missing)}, the first is {missing[0]}. "
            "Restore them, or start a new run."
        )
    return {part: np.array(sorted(positions), dtype=int) for part, positions in parts.items()}
