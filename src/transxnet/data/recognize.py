"""Recognize the format of DATA on the command line, and the task that it is for."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from transxnet.data.formats import class_folders, coco_folders, label_maps, label_table, voc, yolo_folders
from transxnet.data.formats.parts import Parts
from transxnet.data.formats.timm_readers import is_reader_name
from transxnet.data.reading.table_files import TABLE_EXTENSIONS
from transxnet.data.samples.builtin_samples import DENSE_SAMPLES, SAMPLES
from transxnet.utils.errors import UserError, check_one_of, nearest

TASKS = {
    "coco": "detect",
    "voc": "detect",
    "yolo": "detect",
    "label maps": "segment",
    "label table": "classify",
    "class folders": "classify",
    "sample": "classify",
    "reader": "classify",
}
"""The task of each data format."""

ACCEPTED = {
    "coco": coco_folders.ACCEPTED,
    "voc": voc.ACCEPTED,
    "yolo": yolo_folders.ACCEPTED,
    "label maps": label_maps.ACCEPTED,
    "label table": label_table.ACCEPTED,
    "class folders": class_folders.ACCEPTED,
}
"""The layout of a folder of each format, for error messages."""

SEE_LAYOUTS = "Accepted layouts: transxnet layouts"
"""Where a message refers to for the layouts."""

FIND_PARTS: dict[str, Callable[[Path], Parts]] = {
    "coco": coco_folders.find_coco,
    "voc": voc.find_voc,
    "yolo": yolo_folders.find_yolo,
    "label maps": label_maps.find_label_maps,
    "label table": label_table.find_label_table,
    "class folders": class_folders.find_class_folders,
}
"""The formats in the order in which they are tried."""

FILES = ("coco", "yolo", "label table")
"""The formats of which DATA may be a file."""


@dataclass(frozen=True)
class Recognition:
    """The format and task of DATA.

    Attributes:
        data: as the user gave it.
        format: one of :data:`TASKS`.
        task: "classify", "detect" or "segment".
        why: what it was recognized by.
        parts: the sets of a folder; None for samples and timm readers, which are not opened.
    """

    data: str
    format: str
    task: str
    why: str
    parts: Parts | None = None


def recognize(data: str, task: str | None = None) -> Recognition:
    """Recognize the format of DATA. Without a task, the order of precedence is boxes, label maps, classes.

    Args:
        data: name of a sample, a timm reader name, a folder or an annotation file.
        task: "classify", "detect" or "segment"; None for the task that the data is for.

    Raises:
        UserError: DATA does not exist, or is not for the task.
    """
    if task is not None:
        check_one_of(tuple(dict.fromkeys(TASKS.values())), task=task)
    candidates = recognize_name(data) or _recognize_path(data, task)
    found = next((found for found in candidates if task in (None, found.task)), None)
    if found is not None:
        return found
    actual = recognize(data)
    raise UserError(
        f"{data} is data for task {actual.task!r}, got task {task!r}: {actual.why}. Remove --task, or arrange the data "
        f"for it. {SEE_LAYOUTS}"
    )


def check_exists(data: str) -> None:
    """Raise UserError if DATA is neither a sample, nor a timm reader name, nor an existing file or folder."""
    if recognize_name(data) or os.path.exists(data):
        return
    folder = Path(data).parent
    try:
        siblings = [str(folder / entry.name) for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."]
    except (OSError, ValueError):  # such as a name that is too long
        siblings = []
    samples = [*SAMPLES, *DENSE_SAMPLES]
    raise UserError(
        f"{data!r} is neither an existing folder nor a sample ({', '.join(samples)})."
        f"{nearest(data, [*samples, *siblings])} {SEE_LAYOUTS}"
    )


def recognize_name(data: str) -> list[Recognition]:
    """Return the task and format of a timm reader or sample, one entry for each task; empty if DATA is a path.

    A folder or file takes precedence over a sample of the same name.
    """
    sample = "it is a built-in sample"
    if is_reader_name(data):
        found = {"reader": "it is the name of a timm reader"}
    elif os.path.exists(data):  # unlike Path.exists, it does not raise for a name that is too long
        found = {}
    elif data in DENSE_SAMPLES:
        found = {"coco": sample, "label maps": sample}
    else:
        found = {"sample": sample} if data in SAMPLES else {}
    return [Recognition(data, name, TASKS[name], why) for name, why in found.items()]


def _recognize_path(data: str, task: str | None) -> Iterator[Recognition]:
    """Iterate over the formats of a folder or a file that are for the task."""
    check_exists(data)
    path = Path(data)
    for name, find in FIND_PARTS.items():
        if task in (None, TASKS[name]) and (path.is_dir() or name in FILES):
            parts = find(path)
            if any(parts):
                yield Recognition(data, name, TASKS[name], _why(name, parts), parts)
    if not path.is_dir() and task is None:
        raise UserError(
            f"{path} is a file, but neither a COCO annotation file, nor YOLO's data.yaml, nor a table. Accepted: a "
            f"folder, such a file, or a table ({', '.join(TABLE_EXTENSIONS)})."
        )


def _why(name: str, parts: Parts) -> str:
    part = next(part for part in parts if part is not None)
    return {
        "coco": lambda: f"{part.annotations.name} is a COCO annotation file",
        "voc": lambda: f"{part.annotations.name}/ contains XML files of Pascal VOC",
        "yolo": lambda: "its images have text files with YOLO labels",
        "label maps": lambda: f"{part.maps} contains label maps for {part.images}",
        "label table": lambda: f"{part.name} is a table of images and labels",
        "class folders": lambda: "it contains folders without annotations or label maps",
    }[name]()
