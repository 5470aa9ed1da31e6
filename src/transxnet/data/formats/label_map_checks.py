"""Check images and label maps, each once, before training."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.datasets.segmentation_dataset import IGNORE, SegmentationSet
from transxnet.data.formats.class_names import read_class_names
from transxnet.data.formats.color_tables import ColorTable, read_color_table
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.label_maps import MapPart, is_ade20k, pair_up
from transxnet.data.formats.unreadable_images import FULL_UP_TO, check_each
from transxnet.data.reading.image_decoding import UnreadableImage, read_label_map
from transxnet.data.reading.pixels import pixels_size
from transxnet.utils.errors import UserError

_Pairs = list[tuple[Path, Path]]
_UNKNOWN = -1
_MAX_UNNAMED = 200
"""Without class names, larger values are no class indices: no public data set has so many classes."""


def read_label_maps(
    parts: Sequence[MapPart | None],
    findings: Findings,
    *,
    zero_is_ignored: bool | None = None,
    class_names: list[str] | None = None,
    channels: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[SegmentationSet | None]:
    """Check every image and label map of all sets, and keep the valid pairs.

    The class names come from a file next to the maps (see :mod:`transxnet.data.formats.class_names` and, for maps in
    color, :mod:`transxnet.data.formats.color_tables`). Without one, the classes are the numbers up to the largest value
    in the first set. Of more than ``FULL_UP_TO`` images only the
    headers are read; label maps are always decoded.

    Args:
        parts: as returned by :func:`~transxnet.data.formats.label_maps.find_label_maps`, the training set first.
        findings: receives the problems; the caller raises those that are refused.
        zero_is_ignored: whether value 0 means "ignore" and classes start at 1, as in ADE20K; if not, 255 means "ignore"
            and classes start at 0. None: True if the folder has ADE20K's name or table of classes.
        class_names: classes of the model to evaluate, for maps without a file of names.
        channels: number of channels that the images are read in, or None for RGB.
        progress: called with the number of images checked.

    Raises:
        UserError: the names cannot be read, there are too many classes, or the values are not class indices.
    """
    given = [part for part in parts if part is not None]
    pairs = [pair_up(part, findings, channels) for part in given]
    folders = [folder for part in given for folder in (part.root, part.maps, part.maps.parent)]
    table = read_color_table(*folders)
    values = _check_all(pairs, channels, None if table is None else table.colors, findings, progress)
    names = read_class_names(*folders) or class_names if table is None else table.names
    if zero_is_ignored is None:
        zero_is_ignored = any(is_ade20k(part.root) for part in given)
    meaning, names = _meaning(values, names, zero_is_ignored, table, findings)
    lookup = np.where(meaning == _UNKNOWN, IGNORE, meaning).astype(np.uint8)
    sets = {}
    for part, found, seen in zip(given, pairs, values, strict=True):
        for number, present in seen.items():
            _check_values(found[number][1], present, meaning, len(names), table, findings)
        kept = [found[number] for number in seen]
        images = [image for image, _ in kept]
        sets[part] = SegmentationSet(
            FileImages([str(path) for path in images], channels),
            [path.relative_to(part.images).as_posix() for path in images],
            names,
            [str(path) for _, path in kept],
            lookup,
            None if table is None else table.colors,
        )
    return [None if part is None else sets[part] for part in parts]


def _check_all(
    pairs: list[_Pairs],
    channels: int | None,
    colors: np.ndarray | None,
    findings: Findings,
    progress: Callable[[int], None] | None,
) -> list[dict[int, np.ndarray]]:
    """For each set, the values in each usable map, by the index of its pair."""
    full, done = sum(map(len, pairs)) <= FULL_UP_TO, 0
    values: list[dict[int, np.ndarray]] = []
    for part in pairs:
        values.append({})
        check = partial(_check_pair, part, channels, colors, full)
        for number, seen in enumerate(check_each(len(part), check, progress, done)):
            if isinstance(seen, tuple):
                findings.add(*seen)
            else:
                values[-1][number] = seen
        done += len(part)
    return values


def _check_pair(
    pairs: _Pairs, channels: int | None, colors: np.ndarray | None, full: bool, number: int
) -> np.ndarray | tuple[Problem, str]:
    """The values of one label map, or the problem of the pair."""
    image, label_map = pairs[number]
    try:
        size = pixels_size(str(image), channels, full)
    except UnreadableImage as error:
        return Problem.IMAGE_UNREADABLE, f"{image.name}: {error}"
    try:
        values = read_label_map(str(label_map), colors)
    except UnreadableImage as error:
        return Problem.MAP_UNREADABLE, f"{label_map.name}: {error}"
    if values.shape != size:
        sizes = f"label map {values.shape[1]}x{values.shape[0]}, image {size[1]}x{size[0]}"
        rotated = "; rotate it as the image's EXIF orientation rotates the image" if values.shape == size[::-1] else ""
        return Problem.MAP_SIZE, f"{label_map.name}: {sizes}{rotated}"
    return np.flatnonzero(np.bincount(values.ravel())) if values.dtype == np.uint8 else np.unique(values)


def _meaning(
    values: list[dict[int, np.ndarray]],
    names: list[str] | None,
    zero_is_ignored: bool,
    table: ColorTable | None,
    findings: Findings,
) -> tuple[np.ndarray, list[str]]:
    """The label of each value (256,), or ``IGNORE`` or ``_UNKNOWN``, and the class names."""
    seen = {int(value) for part in values for present in part.values() for value in present}
    meaning = np.full(256, _UNKNOWN)
    meaning[IGNORE] = IGNORE
    if seen <= {0, 255} and 255 in seen and not zero_is_ignored and (names is None or len(names) == 2):
        meaning[[0, 255]] = 0, 1
        findings.add(Problem.FOREGROUND_255, "255")
        return meaning, names or ["background", "foreground"]
    first = int(zero_is_ignored)
    if zero_is_ignored:
        meaning[0] = IGNORE
        names = names[1:] if table is not None and names is not None else names
    if names is None:
        _check_indices(values, seen)
        largest = max((int(v) for present in values[0].values() for v in present if v < IGNORE), default=first)
        names = [str(value) for value in range(first, max(largest, first) + 1)]
    if len(names) > IGNORE - first:
        raise UserError(
            f"the data has {len(names)} classes. Accepted: at most {IGNORE - first}, since labels are stored as bytes."
        )
    meaning[first : first + len(names)] = np.arange(len(names))
    return meaning, names


def _check_indices(values: list[dict[int, np.ndarray]], seen: set[int]) -> None:
    """Raise UserError if the values cannot be class indices: too large, or with too many gaps.

    They are those of binary masks with soft edges, after resizing, or of classes drawn in shades of gray.
    """
    between = sorted(value for value in seen if 0 < value < IGNORE)
    largest = between[-1] if between else 0
    gaps = largest > 32 and len(between) < largest / 2
    if largest < _MAX_UNNAMED and not gaps:
        return
    affected = sum(bool(np.isin(present, between).any()) for part in values for present in part.values())
    listed = ", ".join(map(str, between[:5])) + (" and more" if len(between) > 5 else "")
    advice = "Threshold binary masks that were resized or saved as JPEG" if IGNORE in seen else "Convert the maps"
    raise UserError(
        f"the values of {affected} of {sum(map(len, values))} label maps are not class indices: between 0 and 255 they "
        f"contain {listed}. Accepted: indices from 0, or 0 and 255 for two classes. {advice}, or list the name of each "
        "value from 0 in classes.txt."
    )


def _check_values(
    label_map: Path,
    present: np.ndarray,
    meaning: np.ndarray,
    classes: int,
    table: ColorTable | None,
    findings: Findings,
) -> None:
    """Record a map that holds unknown values or colors."""
    beyond = [int(value) for value in present if not 0 <= value <= IGNORE or meaning[value] == _UNKNOWN]
    if not beyond:
        return
    more = " and more" if len(beyond) > 5 else ""
    if table is not None and beyond[-1] > IGNORE:
        colors = (tuple((value - 256).to_bytes(3)) for value in [value for value in beyond if value > IGNORE][:5])
        listed = ", ".join(map(str, colors)) + more
        findings.add(Problem.UNKNOWN_COLOR, f"{label_map.name}: {listed}; accepted: those of {table.file.name}")
        return
    first = int(meaning[0] == IGNORE)
    listed = ", ".join(map(str, beyond[:5])) + more
    accepted = f"accepted: {first} to {first + classes - 1} for {classes} classes, and {IGNORE} for 'ignore'"
    findings.add(Problem.LABEL_BEYOND, f"{label_map.name}: value {listed}; {accepted}")
