"""Split images into a training and a validation set, reproducibly."""

import csv
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TextIO, TypeVar

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import ImageCollection
from transxnet.data.formats.parts import Parts
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.quantities import format_count

C = TypeVar("C", bound=ImageCollection)


def split_images(
    images: C,
    fraction: float,
    seed: int,
    stored: Path | None = None,
    strata: np.ndarray | None = None,
    absent: Collection[str] = (),
) -> tuple[C, C]:
    """Split images into a training and a validation set.

    Args:
        images: all images.
        fraction: fraction of the images to validate on; 0 for an empty validation set.
        seed: seed of the split.
        stored: file of an earlier split to use instead.
        strata: what to stratify by; by default each image's class, its rarest class of several, the tenth of the images
            that its number is in, or its rarest object class. Label maps are not stratified.
        absent: names of images that the stored split may have although they are missing.

    Raises:
        UserError: there are too few images or groups to split, or images of the stored split are missing.
    """
    if stored is not None:
        parts = read_split(stored, images.own_names, absent)
        if not len(parts["train"]):
            raise UserError(f"the split {stored} has no training image. Give at least one image the part train.")
        return images.subset(parts["train"]), images.subset(parts["val"])
    if fraction == 0:
        return images, images.subset(np.array([], int))
    strata = image_strata(images) if strata is None else strata
    groups = images.own_groups
    unit = "image" if groups is None else "group"
    train, val = _divide(strata, groups, fraction, seed)
    if not len(val):
        if isinstance(images, ClassificationSet) and images.targets == "classes":
            raise UserError(
                f"every class has only one {unit}, so no validation set can be split off. Add at least one {unit}."
            )
        train, val = _divide(np.zeros(len(images), int), groups, fraction, seed)
    if not len(val):
        count = len(images) if groups is None else len(np.unique(groups))
        raise UserError(f"a validation set needs at least two {unit}s in total, got {count}.")
    return images.subset(train), images.subset(val)


def draw_fraction(images: C, fraction: float, seed: int, strata: np.ndarray | None = None) -> C:
    """Return a fraction of the images, at least one of each class that has two or more.

    Args:
        images: all images.
        fraction: fraction of the images to draw.
        seed: seed of the draw; the same images in the same order give the same ones.
        strata: what to stratify by; by default as for :func:`split_images`.

    Raises:
        UserError: the images can only be read in order.
    """
    if not isinstance(images, ImageCollection):
        raise UserError("--train-fraction needs images in files or in a sample; shards are read in order. Remove it.")
    return images.subset(stratified_split(image_strata(images) if strata is None else strata, fraction, seed)[1])


def _divide(strata: np.ndarray, groups: np.ndarray | None, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    if groups is None:
        return stratified_split(strata, fraction, seed)
    return grouped_split(strata, groups, fraction, seed)


def image_strata(images: ImageCollection) -> np.ndarray:
    """Return what each image (N,) is stratified by: its class or its rarest one; label maps are not stratified."""
    if isinstance(images, ClassificationSet):
        return _label_strata(images)
    if not isinstance(images, DetectionSet):
        return np.zeros(len(images), int)
    labels = images.own_labels
    counts = np.bincount(np.concatenate([[0], *labels]).astype(int), minlength=len(images.class_names) + 1)
    return np.array([int(own[counts[own].argmin()]) if len(own) else 0 for own in labels])


def _label_strata(images: ClassificationSet) -> np.ndarray:
    labels = images.own_labels
    if images.targets == "classes":
        return labels
    if images.targets == "regression":
        return np.digitize(labels, np.quantile(labels, np.arange(0.1, 1, 0.1)))
    has = labels == 1
    rarest = np.where(has, has.sum(0), len(has) + 1).argmin(1) if has.size else np.zeros(len(has), int)
    return np.where(has.any(1), rarest, -1)


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


def grouped_split(strata: np.ndarray, groups: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split off about the same fraction of every stratum, without splitting a group.

    From the rarest stratum on, groups are drawn that bring their strata closer to the fraction. A stratum of several
    groups gives at least one if the others allow it, and never its last. scikit-learn's
    StratifiedGroupKFold makes only splits of equal parts, and without these two guarantees.

    Args:
        strata: (N,) or (N, k) what to stratify by.
        groups: (N,) group of each item.
        fraction: fraction of all items to validate on, between 0 and 1.
        seed: seed of the split; the same items in the same order give the same split.

    Returns:
        Training and validation positions, ascending. The validation set is empty if there is only one group.
    """
    stratum = np.unique(np.asarray(strata), axis=0, return_inverse=True)[1].ravel()
    group = np.unique(groups, return_inverse=True)[1].ravel()
    strata_of: list[dict[int, int]] = [{} for _ in range(int(group.max()) + 1)]  # number of items by stratum
    groups_of: list[list[int]] = [[] for _ in range(int(stratum.max()) + 1)]
    pairs, counts = np.unique(np.stack([stratum, group], 1), axis=0, return_counts=True)
    for (s, g), count in zip(pairs.tolist(), counts.tolist(), strict=True):
        strata_of[g][s] = count
        groups_of[s].append(g)
    sizes = np.bincount(stratum).tolist()
    missing = [size * fraction for size in sizes]
    left = [len(members) for members in groups_of]
    drawn = np.zeros(len(strata_of), bool)

    def is_free(g: int) -> bool:
        return not drawn[g] and all(left[s] > 1 for s in strata_of[g])

    def gain(g: int) -> float:
        return sum((abs(missing[s]) - abs(missing[s] - count)) / sizes[s] for s, count in strata_of[g].items())

    def draw(g: int) -> None:
        drawn[g] = True
        for s, count in strata_of[g].items():
            missing[s] -= count
            left[s] -= 1

    generator = np.random.default_rng(seed)
    for s in np.argsort(sizes, kind="stable").tolist():
        members = generator.permutation(groups_of[s]).tolist()
        for g in members:
            if missing[s] > 0 and is_free(g) and gain(g) > 0:
                draw(g)
        free = [g for g in members if is_free(g)]
        if free and not drawn[members].any():
            draw(max(free, key=gain))
    validation = drawn[group]
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def divide_into_folds(strata: np.ndarray, groups: np.ndarray | None, count: int, seed: int) -> np.ndarray:
    """Return the fold (N,) of each item, 0 to ``count`` - 1: about equal parts of every stratum, without split groups.

    Each fold is split off from the items that are left, by :func:`stratified_split` or :func:`grouped_split`.

    Args:
        strata: (N,) what to stratify by.
        groups: (N,) group of each item, or None.
        count: number of folds.
        seed: seed of the folds; the same items in the same order give the same folds.

    Raises:
        UserError: there are fewer items or groups than folds.
    """
    units = len(strata) if groups is None else len(np.unique(groups))
    if units < count:
        unit = "image" if groups is None else "group"
        raise UserError(f"{count} folds need at least {count} {unit}s, got {units}. Use --folds {max(2, units)}.")
    fold, left = np.full(len(strata), count - 1), np.arange(len(strata))
    for number in range(count - 1):
        rest, part = _divide(strata[left], None if groups is None else groups[left], 1 / (count - number), seed)
        fold[left[part]] = number
        left = left[rest]
    return fold


def group_images(images: C, pattern: str) -> C:
    """Return the images with the groups that a regular expression finds in their names.

    Args:
        images: all images.
        pattern: its first group, or the whole match, is the group of an image. An image whose name does not match is a
            group of its own.

    Raises:
        UserError: the expression is invalid, or matches no name.
    """
    return group_and_describe(images, pattern)[0]


def group_and_describe(images: C, pattern: str) -> tuple[C, list[str]]:
    """Return the images as :func:`group_images` does, and a description of the groups."""
    found = find_groups(images.names, pattern)
    described = describe_groups([found[i] for i in images.indices], images.class_names)
    return replace(images, groups=group_numbers(found)), described


def find_groups(names: Sequence[str], pattern: str) -> list[str | None]:
    """Find the group in each name; None without a match. Arguments and errors as of :func:`group_images`."""
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(
            f"group_from {pattern!r} is not a regular expression: {error}. Correct --group-from."
        ) from error
    matches = [expression.search(name) for name in names]
    if not any(matches):
        raise UserError(f"group_from {pattern!r} matches no image, such as {names[0]!r}. Correct --group-from.")
    return [match and (match[1] if expression.groups and match[1] is not None else match[0]) for match in matches]


def group_numbers(found: Sequence[str | None]) -> np.ndarray:
    """Return the number (N,) of each group of :func:`find_groups`; None is a group of its own."""
    numbers: dict[str, int] = {}
    return np.array(
        [
            position + len(found) if group is None else numbers.setdefault(group, len(numbers))
            for position, group in enumerate(found)
        ]
    )


def describe_groups(found: Sequence[str | None], class_names: Sequence[str]) -> list[str]:
    """Describe the groups of :func:`find_groups`, with a warning if a class is part of a group.

    Args:
        found: group of each image.
        class_names: names of the classes, which may be folders.
    """
    groups = list(dict.fromkeys(group for group in found if group is not None))
    alone = sum(group is None for group in found)
    about = f"{format_count(len(groups), 'group')} of images (--group-from), such as {', '.join(groups[:3])}"
    notes = [about + (f"; without a match, each a group of its own: {format_count(alone, 'image')}" if alone else "")]
    with_class = next((group for group in groups if set(group.split("/")) & set(class_names)), None)
    if with_class is not None:
        notes.append(
            f"warning: the group {with_class} contains the name of a class, so that images of one patient or object in "
            "two classes are in two groups. --group-from is searched for in the path below the data folder; "
            r"'([^/_]+)_[^/]*$' finds what stands before the first _ of the file name."
        )
    return notes


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
            f"cannot read the split {path}: {error}. Accepted: columns name and part, with part train, val or test."
        ) from error


def stored_test_set(images: C, stored: Path, absent: Collection[str] = ()) -> C | None:
    """Return the images of the part ``test`` of a stored split, or None if it has no such part."""
    positions = read_split(stored, images.own_names, absent).get("test")
    return None if positions is None else images.subset(positions)


def split_names(path: Path) -> list[str]:
    """Names of all images of a stored split; none if the file is not a split."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return [row["name"] for row in _rows(file, path) if row.get("name")]


def read_split(path: Path, names: Sequence[str], absent: Collection[str] = ()) -> dict[str, np.ndarray]:
    """Read the positions in ``names`` of each part of a stored split: train and val, and test if an image has it.

    Raises:
        UserError: images of the split are missing that ``absent`` does not name, one is named twice, or the file is
            not a split.
    """
    if not path.is_file():
        raise UserError(f"the split {path} does not exist. Accepted: a CSV file with columns name and part.")
    position = {name: i for i, name in enumerate(names)}
    parts: dict[str, list[int]] = {"train": [], "val": []}
    missing, seen = [], set()
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for row in _rows(file, path):
            name, part = row.get("name"), row.get("part")
            if name is None or part not in Parts._fields:
                raise UserError(
                    f"cannot read the split {path}: got row {row}. Accepted: columns name and part, with part train, "
                    "val or test."
                )
            if name in seen:
                raise UserError(f"the split {path} names {name} twice. Name each image once.")
            seen.add(name)
            if name in position:
                parts.setdefault(part, []).append(position[name])
            elif name not in absent:
                missing.append(name)
    if missing:
        raise UserError(
            f"images of the stored split {path} are missing: {len(missing)}, the first is {missing[0]}. "
            "Restore them, or start a new run."
        )
    return {part: np.array(sorted(positions), dtype=int) for part, positions in parts.items()}
