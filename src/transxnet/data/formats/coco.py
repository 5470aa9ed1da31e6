"""Read and check annotation files in COCO format, in one pass."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.class_names import is_plain
from transxnet.data.formats.coco_folders import CocoPart
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.object_checks import ObjectCollector, is_id
from transxnet.data.reading.file_search import find_file
from transxnet.data.reading.image_decoding import MAX_PIXELS, UnreadableImage, upright_size
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_json

_LISTS = ("images", "annotations", "categories")


def read_coco(part: CocoPart, findings: Findings, *, masks: bool) -> DetectionSet | None:
    """Read the images of an annotation file and their objects, without those that :class:`Problem` leaves out.

    Labels start at 1, in the order of the category ids.

    Args:
        part: the annotation file and the candidate image folders.
        findings: receives the problems; the caller raises those that are refused.
        masks: also read the objects' masks.

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
    kept = _existing(images, folder, file, findings)
    if images and not kept:
        looked = ", ".join(map(str, part.folders))
        raise UserError(
            f"none of the {len(images)} images of {part.annotations} was found, such as "
            f"{next(iter(images.values()))[0]!r}. Put them into one of these folders: {looked}."
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
        FileImages([path for path, _, _ in kept.values()]),
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
        if _lacks(entry, {"id": int, "name": str}, f"{file}: categories[{number}]", findings):
            continue
        if entry["id"] in found or entry["name"] in names:
            findings.add(Problem.DUPLICATE_CATEGORY, f"{file}: category {entry['id']} ({entry['name']})")
        if not is_plain(entry["name"]):
            findings.add(Problem.ENTRY_BROKEN, f"{file}: categories[{number}]: 'name' is {entry['name']!r:.40}")
        found[entry["id"]] = entry["name"]
        names.add(entry["name"])
    return found


def _images(entries: list, file: str, findings: Findings) -> dict[int, tuple[str, tuple[int, int] | None]]:
    """File names, and sizes (height, width) if given, by id."""
    found: dict[int, tuple[str, tuple[int, int] | None]] = {}
    for number, entry in enumerate(entries):
        if _lacks(entry, {"id": int, "file_name": str}, f"{file}: images[{number}]", findings):
            continue
        if entry["id"] in found:
            findings.add(Problem.DUPLICATE_IMAGE, f"{file}: image {entry['id']} ({entry['file_name']})")
        size = entry.get("height"), entry.get("width")
        known = all(type(side) is int and 0 < side <= MAX_PIXELS for side in size)
        found[entry["id"]] = entry["file_name"], size if known else None  # type: ignore[assignment]
    return found


def _existing(
    images: dict[int, tuple[str, tuple[int, int] | None]], folder: Path, file: str, findings: Findings
) -> dict[int, tuple[str, str, tuple[int, int]]]:
    """Path, name and size of the existing images by ascending id, the order in which COCO breaks ties of scores."""
    kept = {}
    findings.images += len(images)
    for image_id, (name, size) in sorted(images.items()):
        place, path = f"{file}: image {image_id} ({name})", find_file(folder, name)
        if path is None:
            findings.add(Problem.IMAGE_MISSING, place)
            continue
        if size is None:
            try:
                size = upright_size(str(path), full=False)
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
        place = f"{file}: annotations[{number}]"
        if _lacks(entry, {"image_id": int, "category_id": int}, place, findings):
            continue
        image_id, category = entry["image_id"], entry["category_id"]
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
                crowd=bool(entry.get("iscrowd")),
                number=entry.get("id"),
                segmentation=entry.get("segmentation"),
            )


def _lacks(entry: Any, needed: dict[str, type], place: str, findings: Findings) -> bool:
    """Record an entry that is not a JSON object or lacks a value of the right type."""
    if not isinstance(entry, dict):
        findings.add(Problem.ENTRY_BROKEN, f"{place} is {entry!r:.40}")
        return True
    for key, kind in needed.items():
        if type(entry.get(key)) is not kind or (kind is int and not is_id(entry[key])):
            what = f"{key!r} is {entry[key]!r:.40}" if key in entry else f"{key!r} is missing"
            findings.add(Problem.ENTRY_BROKEN, f"{place}: {what}")
            return True
    return False
