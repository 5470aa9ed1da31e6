"""Holding a part of the images out, the same part every time."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from transxnet.errors import UserError


def stratified_split(strata: Sequence | np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Hold out the same share of every stratum.

    Args:
        strata: (N,) what each item must be balanced over: its class, or (class, type) and so on.
        fraction: share to hold out, between 0 and 1. Of a stratum of one, none is.
        seed: of the draw; the same items in the same order give the same split.

    Returns:
        Positions to train on and positions held out, ascending.
    """
    _, group = np.unique(np.asarray(strata), axis=0, return_inverse=True)
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(group), bool)
    for g in range(group.max() + 1):
        members = np.flatnonzero(group == g)
        count = min(max(round(len(members) * fraction), 1), len(members) - 1)
        held_out[generator.permutation(members)[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def write_split(path: Path, parts: dict[str, Sequence[str]]) -> None:
    """Write which image belongs to which part: a CSV of name and part."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "part"])
        for part, names in parts.items():
            writer.writerows((name, part) for name in names)


def read_split(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Positions in ``names`` of each part of a stored split.

    Raises:
        UserError: images of the split are gone.
    """
    position = {name: i for i, name in enumerate(names)}
    parts: dict[str, list[int]] = {"train": [], "val": []}
    gone = []
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        for row in csv.DictReader(file):
            if row["name"] in position:
                parts[row["part"]].append(position[row["name"]])
            else:
                gone.append(row["name"])
    if gone:
        raise UserError(
            f"{len(gone)} images of the stored split {path} are gone, {gone[0]} first. "
            "Put them back, or start a new run."
        )
    return {part: np.array(sorted(positions), dtype=int) for part, positions in parts.items()}
