"""Read and check annotation files in COCO format, in one pass."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.class_names import is_plain
from transxnet.data.formats.coco_folders import CocoPart
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.object_checks import ObjectCollector, as_flag, as_id
from transxnet.data.reading.file_search import find_file
from transxnet.data.reading.image_decoding import MAX_PIXELS, UnreadableImage
from transxnet.data.reading.pixels import pixels_size
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_json

_LISTS = ("images", "annotations", "categories")


def read_coco(part: CocoPart, findings: Findings, *, masks: bool, channels: int | None = None) -> DetectionSet | None:
    """Read the images of an annotation file and their objects, without those that :class:`Problem` leaves out.

    Labels start at 1, in the order of the category ids.

    Args:
        part: the annotation file and the candidate image folders.
        findings: receives the problems; the caller raises those that are refused.
        masks: also read the objects' masks.
        channels: number of channels that the images are read in, or None for RGB.

    Returns:
        The set, or None if the whole file is refused.

    Raises:
        UserError: masks are requested but no object has one, or none of the images exists.
    """
    content = _load(part.annotations, findings)
    if content is None:
        return None
    file = part.name
    categories = _categories(content["categories"], file, findings)
    images = _images(content["images"], file, findings)
    folder = part.image_folder([name for name, _ in images.values()])
    kept = _existing(images, folder, file, findings, channels)
    if images and not kept and findings.count(Problem.IMAGE_MISSING) >= len(images):
        looked = ", ".join(map(str, part.folders))
        raise UserError(
            f"none of the {len(images)} images of {part.annotations} was found:\n"
            f"{findings.listed([Problem.IMAGE_MISSING])}\nPut them into one of these folders: {looked}."
        )
    if masks and not any(isinstance(a, dict) and a.get("segmentation") for a in content["annotations"]):
        raise UserError(
            f"{part.annotations} has boxes but no masks. Accepted masks: polygons or RLE under 'segmentation'. For "
            "boxes only, use --head retinanet."
        )
    sizes = np.array([size for _, _, size in kept.values()], np.int64).reshape(-1, 2)
    objects = ObjectCollector(sizes, findings, masks)
    _collect(content["annotations"], file, images, list(kept), categories, objects, findings)
    made, first = objects.collected(file)
    ids = sorted(categories)
    return DetectionSet(
        FileImages([path for path, _, _ in kept.values()], channels),
        [name for _, name, _ in kept.values()],
        [categories[i] for i in ids],
        sizes,
        np.array(list(kept), np.int64),
        made,
        first,
        ids,
    )


def _load(path: Path, findings: Findings) -> dict[str, list] | None:
    try:
        content = read_json(path)
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - 20) : error.pos + 20]
        where = f"line {error.lineno}, column {error.colno}, near {near!r}"
        findings.add(Problem.FILE_BROKEN, f"{path}: {error.msg} at {where}")
        return None
    except (ValueError, OSError) as error:
        findings.add(Problem.FILE_BROKEN, f"{path}: {error}")
        return None
    missing = [name for name in _LISTS if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if missing:
        findings.add(Problem.FILE_BROKEN, f"{path}: missing list {' and '.join(map(repr, missing))}")
        return None
    if not content["categories"] or not content["images"]:
        findings.add(
            Problem.FILE_BROKEN, f"{path}: list {'images' if content['categories'] else 'categories'} is empty"
        )
        return None
    return content


def _categories(entries: list, file: str, findings: Findings) -> dict[int, str]:
    """Category names by id."""
    found: dict[int, str] = {}
    names: set[str] = set()
    for number, entry in enumerate(entries):
        place = f"{file}: categories[{number}]"
        values = _values(entry, {"id": _ID, "name": _NAME}, place, findings)
        if values is None:
            continue
        category, name = values
        if category in found or name in names:
            findings.add(Problem.DUPLICATE_CATEGORY, f"{file}: category {category} ({name})")
        if not is_plain(name):
            findings.add(Problem.ENTRY_BROKEN, f"{place}: 'name' is {name!r:.40}")
        found[category] = name
        names.add(name)
    return found


def _images(entries: list, file: str, findings: Findings) -> dict[int, tuple[str, tuple[int, int] | None]]:
    """File names, and sizes (height, width) if given, by id."""
    found: dict[int, tuple[str, tuple[int, int] | None]] = {}
    for number, entry in enumerate(entries):
        values = _values(entry, {"id": _ID, "file_name": _TEXT}, f"{file}: images[{number}]", findings)
        if values is None:
            continue
        image_id, name = values
        if image_id in found:
            findings.add(Problem.DUPLICATE_IMAGE, f"{file}: image {image_id} ({name})")
        height, width = as_id(entry.get("height")), as_id(entry.get("width"))
        known = height is not None and width is not None and 0 < height <= MAX_PIXELS and 0 < width <= MAX_PIXELS
        found[image_id] = name, (height, width) if known else None  # type: ignore[assignment]
    return found


def _existing(
    images: dict[int, tuple[str, tuple[int, int] | None]],
    folder: Path,
    file: str,
    findings: Findings,
    channels: int | None,
) -> dict[int, tuple[str, str, tuple[int, int]]]:
    """Path, name and size of the existing images by ascending id, the order in which COCO breaks ties of scores.

    A file that several images name is refused. If a name matches a file only without its leading folders, and another
    image has this file too, it probably lies in a folder that is missing.
    """
    kept = {}
    findings.images += len(images)
    found = {image_id: find_file(folder, name) for image_id, (name, _) in sorted(images.items())}
    users = Counter(os.path.normpath(path) for path, _ in found.values() if path is not None)
    exact: set[str] = set()
    for image_id, (path, shortened) in found.items():
        name, size = images[image_id]
        place = f"{file}: image {image_id} ({name})"
        if path is None:
            findings.add(Problem.IMAGE_MISSING, place)
            continue
        normal = os.path.normpath(path)
        if shortened and users[normal] > 1:
            findings.add(
                Problem.IMAGE_MISSING, f"{place}: {path.name} without its folder is the file of several images"
            )
            continue
        if normal in exact:
            findings.add(Problem.DUPLICATE_FILE, place)
        exact.add(normal)
        if size is None:
            try:
                size = pixels_size(str(path), channels, full=False)
            except UnreadableImage as error:
                findings.add(Problem.IMAGE_UNREADABLE, f"{place}: {error}")
                continue
        if size[0] * size[1] > MAX_PIXELS:  # masks of this size would be created before the image is read
            findings.add(Problem.IMAGE_SIZE, f"{place}: {size[1]}x{size[0]} exceeds {MAX_PIXELS:,} pixels")
            continue
        known = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
        kept[image_id] = str(path), known, size
    return kept


def _collect(
    entries: list,
    file: str,
    images: dict[int, tuple[str, tuple[int, int] | None]],
    kept: list[int],
    categories: dict[int, str],
    objects: ObjectCollector,
    findings: Findings,
) -> None:
    """Add the objects of the remaining images."""
    index = {image_id: i for i, image_id in enumerate(kept)}
    labels = {category: label for label, category in enumerate(sorted(categories), 1)}
    for number, entry in enumerate(entries):
        values = _values(entry, _OBJECT, f"{file}: annotations[{number}]", findings)
        if values is None:
            continue
        image_id, category, crowd = values
        name = images[image_id][0] if image_id in images else "unknown"
        place = f"{file}: annotation {entry.get('id', f'[{number}]')} of image {image_id} ({name})"
        if category not in labels:
            findings.add(Problem.UNKNOWN_CATEGORY, f"{place}: category {category}")
        elif image_id not in images:
            findings.objects += 1
            findings.add(Problem.STRAY_ANNOTATION, place)
        elif image_id in index:
            objects.add(
                index[image_id],
                entry.get("bbox") or None,
                labels[category],
                place=place,
                area=entry.get("area"),
                crowd=crowd,
                number=entry.get("id"),
                segmentation=entry.get("segmentation"),
            )


def _name(value: Any) -> str | None:
    """The name of a category; numbers are names too."""
    return str(value) if type(value) in (str, int) else None


_Reader = tuple[Callable[[Any], Any], str]
"""Converts a value, or returns None; and what it accepts."""

_ID: _Reader = as_id, "an integer"
_NAME: _Reader = _name, "text"
_TEXT: _Reader = (lambda value: value if isinstance(value, str) else None), "text"
_OBJECT: dict[str, _Reader] = {"image_id": _ID, "category_id": _ID, "iscrowd": (as_flag, "0 or 1")}


def _values(entry: Any, readers: dict[str, _Reader], place: str, findings: Findings) -> list[Any] | None:
    """The values of an entry under these keys; None, after recording it, if one is missing or of another type."""
    if not isinstance(entry, dict):
        findings.add(Problem.ENTRY_BROKEN, f"{place} is {entry!r:.40}")
        return None
    values = []
    for key, (read, accepted) in readers.items():
        value = read(entry.get(key))
        if value is None:
            what = f"{key!r} is {entry[key]!r:.40}; accepted: {accepted}" if key in entry else f"{key!r} is missing"
            findings.add(Problem.ENTRY_BROKEN, f"{place}: {what}")
            return None
        values.append(value)
    return values
