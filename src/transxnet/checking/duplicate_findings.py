"""Findings about duplicates: in one set, in two sets, and with different labels."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from transxnet.checking.all_images import AllImages
from transxnet.checking.check_findings import DataFinding, Kind
from transxnet.checking.duplicates import NearDuplicates, equal_groups, linked_groups


def exact_findings(images: AllImages, groups: Sequence[np.ndarray]) -> list[DataFinding]:
    """Return the findings about groups of images with the same pixels.

    The last sets keep their images, so that test and validation set do not change; of several images in one set the
    first is kept. Images with different labels are to be reviewed.
    """
    found = []
    for group in groups:
        numbers = tuple(group.tolist())
        sets, labels = images.set_names(numbers), images.labels(numbers)
        kept = _kept(images, numbers)
        copies = tuple(n for n in numbers if n != kept)
        if len(set(sets)) > 1:
            leaked = tuple(n for n in copies if images.set_name(n) != sets[-1])
            found.append(DataFinding(Kind.EXACT_LEAK, numbers, _count(sets), leaked))
        if len(set(labels)) > 1:
            found.append(DataFinding(Kind.EXACT_CONFLICT, numbers, _count(labels)))
        elif len(set(sets)) == 1:
            found.append(DataFinding(Kind.EXACT_DUPLICATE, numbers, f"{len(numbers)} copies", copies))
    return found


def near_findings(images: AllImages, by_pixels: NearDuplicates, by_features: NearDuplicates) -> list[DataFinding]:
    """Return the findings about near duplicates: leaks and conflicts by pair, the others by group.

    All are to be reviewed, since different images of one scene or one kind of part are also similar.

    Args:
        images: the images.
        by_pixels: pairs of :func:`~transxnet.checking.duplicates.near_duplicates`.
        by_features: pairs of :func:`~transxnet.checking.feature_duplicates.feature_duplicates`.
    """
    similarities = {}
    for near, what in ((by_features, "similarity of features"), (by_pixels, "similarity")):
        for (first, second), similarity in zip(near.pairs.tolist(), near.similarity.tolist(), strict=True):
            similarities[first, second] = (what, similarity)
    found, same = [], []
    for pair, (what, similarity) in similarities.items():
        sets, labels = images.set_names(pair), images.labels(pair)
        detail = f"{what} {similarity:.3f}"
        if sets[0] != sets[1]:
            found.append(DataFinding(Kind.NEAR_LEAK, pair, detail))
        if labels[0] != labels[1]:
            found.append(DataFinding(Kind.NEAR_CONFLICT, pair, f"{detail}, {_count(labels)}"))
        elif sets[0] == sets[1]:
            same.append(pair)
    groups = [tuple(g.tolist()) for g in linked_groups(np.array(same, int).reshape(-1, 2), len(images))]
    group_of = {number: i for i, group in enumerate(groups) for number in group}
    within: list[dict[str, list[float]]] = [defaultdict(list) for _ in groups]
    for pair in same:
        what, similarity = similarities[pair]
        within[group_of[pair[0]]][what].append(similarity)
    return found + [
        DataFinding(Kind.NEAR_DUPLICATE, group, f"{len(group)} similar images, {_ranges(own)}")
        for group, own in zip(groups, within, strict=True)
    ]


def group_findings(images: AllImages, groups: np.ndarray) -> list[DataFinding]:
    """Return the findings about groups, such as patients, with images in two sets.

    Args:
        images: N images.
        groups: (N,) number of the group of each image.
    """
    found = []
    for group in equal_groups(np.arange(len(groups)), groups):
        numbers = tuple(group.tolist())
        sets = images.set_names(numbers)
        if len(set(sets)) > 1:
            found.append(DataFinding(Kind.GROUP_LEAK, numbers, _count(sets)))
    return found


def _ranges(values: dict[str, list[float]]) -> str:
    """Return the smallest and largest value of each kind, as text."""
    texts = []
    for what, own in values.items():
        ends = dict.fromkeys(f"{end:.3f}" for end in (min(own), max(own)))
        texts.append(f"{what} {' to '.join(ends)}")
    return ", ".join(texts)


def _kept(images: AllImages, numbers: Sequence[int]) -> int:
    """Return the first image of the last set."""
    last = images.set_name(numbers[-1])
    return next(n for n in numbers if images.set_name(n) == last)


def _count(values: Sequence[str]) -> str:
    """Return the number of each value, as in "2 train, 1 val"."""
    return ", ".join(f"{values.count(value)} {value}" for value in dict.fromkeys(values))
