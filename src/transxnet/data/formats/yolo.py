"""Read and check annotations in YOLO format: a text file with boxes or polygons for each image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.class_names import is_plain, read_names
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.object_checks import ObjectCollector, as_id, as_number
from transxnet.data.formats.yolo_folders import YoloPart, label_file, names_files, read_config, unused_labels
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.data.reading.pixels import pixels_size
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_text

TOLERANCE = 0.01
"""Coordinates may lie this far outside 0 to 1, since they were rounded."""

MAX_CLASSES = 10_000
"""Largest number of classes without names."""

Row = tuple[int, list[float]]
"""Class, and coordinates relative to the image: x and y of the center, width, height; or x and y of each corner."""


def read_yolo(
    parts: Sequence[YoloPart | None], findings: Findings, *, masks: bool, channels: int | None = None
) -> list[DetectionSet | None]:
    """Read the images of the sets and their objects, without those that are skipped according to :class:`Problem`.

    A row is a class from 0, and a box, or the corners of a polygon, whose box is computed. Images without a label file
    have no objects. The category ids are the classes. Without class names, the names are the numbers up to the largest
    class of these sets.

    Args:
        parts: the sets; None for missing ones.
        findings: receives the problems; the caller raises those that are refused.
        masks: also read the polygons as masks.
        channels: number of channels that the images are read in, or None for RGB.

    Raises:
        UserError: the class names cannot be read, or masks are requested but there is no polygon.
    """
    first = next(part for part in parts if part is not None)
    config = read_config(first.config) if first.config is not None else {}
    keypoints = "kpt_shape" in config
    read = [None if part is None else _read_rows(part, findings, keypoints, channels) for part in parts]
    rows = [row for each in read if each is not None for image in each.values() for _, row in image]
    names = _class_names(first, config, max((row[0] for row in rows), default=-1))
    if masks and not any(len(coordinates) > 4 for _, coordinates in rows):
        raise UserError(f"{first.root} has boxes but no object masks. For boxes only, use --head retinanet.")
    return [
        None if part is None or each is None else _set(part, each, names, findings, masks, channels)
        for part, each in zip(parts, read, strict=True)
    ]


def _read_rows(
    part: YoloPart, findings: Findings, keypoints: bool, channels: int | None
) -> dict[Path, list[tuple[str, Row]]]:
    """The rows of each image, with their places."""
    found: dict[Path, list[tuple[str, Row]]] = {}
    owners: dict[Path, Path] = {}
    images = part.images(findings, channels)
    findings.images += len(images)
    for image in images:
        file = label_file(image)
        if file is None:
            findings.add(Problem.NO_LABEL_FILE, _name(part, image))
            found[image] = []
        elif file in owners:
            findings.add(
                Problem.DUPLICATE_FILE, f"{_name(part, image)}: {file.name} is also that of {owners[file].name}"
            )
        else:
            owners[file] = image
            found[image] = _rows(file, _name(part, file), findings, keypoints)
    for file in unused_labels(part, owners):
        findings.objects += 1
        findings.add(Problem.STRAY_ANNOTATION, f"{_name(part, file)}: its image is missing")
    return found


def _rows(file: Path, name: str, findings: Findings, keypoints: bool) -> list[tuple[str, Row]]:
    try:
        lines = read_text(file).splitlines()
    except (OSError, ValueError) as error:
        findings.add(Problem.FILE_BROKEN, f"{file}: {error}")
        return []
    rows: list[tuple[str, Row]] = []
    known: set[str] = set()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        place = f"{name}: line {number}"
        if " ".join(words) in known:
            findings.add(Problem.DUPLICATE_OBJECT, place)
            continue
        known.add(" ".join(words))
        row = _row(words[:5] if keypoints else words, place, findings)
        if row is not None:
            rows.append((place, row))
    return rows


def _row(words: list[str], place: str, findings: Findings) -> Row | None:
    if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
        what = f"{len(words)} columns; accepted: class x y width height, or class x1 y1 x2 y2 x3 y3 ..."
        findings.add(Problem.ENTRY_BROKEN, f"{place}: {what}")
        return None
    label, coordinates = as_id(as_number(words[0])), [as_number(word) for word in words[1:]]
    if label is None:
        findings.add(Problem.ENTRY_BROKEN, f"{place}: class {words[0]!r:.40}; accepted: an integer")
        return None
    known = [value for value in coordinates if value is not None and -TOLERANCE <= value <= 1 + TOLERANCE]
    if len(known) < len(coordinates):
        wrong = next(word for word, value in zip(words[1:], coordinates, strict=True) if value not in known)
        findings.objects += 1
        findings.add(Problem.COORDINATES, f"{place}: {wrong:.40}")
        return None
    return label, known


def _class_names(part: YoloPart, config: dict[str, Any], largest: int) -> list[str]:
    names = config.get("names")
    file = part.config if names is not None else next(names_files(part.root), None)
    if names is None and file is not None:
        names = read_names(file)
    if names is None:
        if largest >= MAX_CLASSES:
            raise UserError(
                f"class {largest} in {part.root} is too large. Accepted without names: 0 to {MAX_CLASSES - 1}."
            )
        return [str(number) for number in range(largest + 1)]
    if isinstance(names, dict):
        numbers = {as_id(as_number(key)): name for key, name in names.items()}
        if None in numbers or sorted(numbers) != list(range(len(names))):  # type: ignore[type-var]
            raise UserError(f"the names in {file} have the keys {[*names]!r:.80}. Accepted: 0 to {len(names) - 1}.")
        names = [numbers[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise UserError(f"the names in {file} are {names!r:.80}. Accepted: a list of class names.")
    texts = [str(name) for name in names]
    twice = [name for name in dict.fromkeys(texts) if texts.count(name) > 1 or not is_plain(name)]
    if twice:
        raise UserError(f"{file} has the class name {twice[0]!r:.40} twice, or it has control characters. Rename it.")
    if config.get("nc", len(texts)) != len(texts):
        raise UserError(f"{file} has {len(texts)} names, but nc is {config['nc']!r:.40}. Correct one of them.")
    return texts


def _set(
    part: YoloPart,
    rows: dict[Path, list[tuple[str, Row]]],
    names: list[str],
    findings: Findings,
    masks: bool,
    channels: int | None,
) -> DetectionSet:
    paths: list[Path] = []
    sizes: list[tuple[int, int]] = []
    for image in rows:
        try:
            sizes.append(pixels_size(str(image), channels, full=False))
        except UnreadableImage as error:
            findings.add(Problem.IMAGE_UNREADABLE, f"{_name(part, image)}: {error}")
            continue
        paths.append(image)
    shapes = np.array(sizes, np.int64).reshape(-1, 2)
    objects = ObjectCollector(shapes, findings, masks)
    for index, (path, (height, width)) in enumerate(zip(paths, sizes, strict=True)):
        for place, (label, coordinates) in rows[path]:
            if not 0 <= label < len(names):
                findings.add(Problem.UNKNOWN_CATEGORY, f"{place}: class {label}; accepted: 0 to {len(names) - 1}")
                continue
            corners = np.array(coordinates).reshape(-1, 2) * (width, height)
            polygon = None if len(coordinates) == 4 else [corners.ravel().tolist()]
            objects.add(
                index,
                _box(corners, polygon is not None),
                label + 1,
                place=place,
                number=objects.seen + 1,
                segmentation=polygon,
            )
    made, first = objects.collected(str(part.root))
    return DetectionSet(
        FileImages([str(path) for path in paths], channels),
        [_name(part, path) for path in paths],
        names,
        shapes,
        np.arange(1, len(paths) + 1),
        made,
        first,
        list(range(len(names))),
    )


def _box(corners: np.ndarray, polygon: bool) -> list[float]:
    """The box [x, y, width, height] of a polygon's corners, or of a center and a size."""
    if polygon:
        low, size = corners.min(axis=0), np.ptp(corners, axis=0)
    else:
        low, size = corners[0] - corners[1] / 2, corners[1]
    return [*low.tolist(), *size.tolist()]


def _name(part: YoloPart, path: Path) -> str:
    return path.relative_to(part.root).as_posix() if path.is_relative_to(part.root) else path.as_posix()
