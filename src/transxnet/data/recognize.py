"""What kind of data DATA on the command line is, and so which task it is for."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transxnet.data import coco_folders, folders, label_maps, voc
from transxnet.data.readers import is_reader_name
from transxnet.data.samples import DENSE_SAMPLES, SAMPLES
from transxnet.utils.errors import UserError, check_one_of, nearest

TASKS = {
    "coco": "detect",
    "voc": "detect",
    "label maps": "segment",
    "class folders": "classify",
    "sample": "classify",
    "reader": "classify",
}
"""The task that each format of data is for."""

ACCEPTED = {
    "coco": coco_folders.ACCEPTED,
    "voc": voc.ACCEPTED,
    "label maps": label_maps.ACCEPTED,
    "class folders": folders.ACCEPTED,
}
"""What a folder of each format looks like."""


@dataclass(frozen=True)
class Recognition:
    """What DATA is.

    Attributes:
        format: one of :data:`TASKS`.
        task: "classify", "detect" or "segment".
        why: what it was recognised by.
    """

    format: str
    task: str
    why: str


def recognise(data: str, task: str | None = None) -> Recognition:
    """What DATA is: for the wanted task, if it holds several things; else the first of boxes, label maps and classes.

    Args:
        data: a sample's name, a timm reader name, a folder or an annotation file.
        task: "classify", "detect" or "segment"; None for what the data is for.

    Raises:
        UserError: there is no such data, or it is not for the task.
    """
    if task is not None:
        check_one_of(tuple(dict.fromkeys(TASKS.values())), task=task)
    found = []
    for recognition in _recognitions(data):
        if task in (None, recognition.task):
            return recognition
        found.append(recognition)
    accepted = "; or ".join(ACCEPTED[name] for name in ACCEPTED if TASKS[name] == task)
    raise UserError(
        f"{data} is not for the task {task!r} but for {found[0].task!r}: {found[0].why}. Accepted for {task!r}: "
        f"{accepted}. Leave out the task, or give other data."
    )


def _recognitions(data: str) -> Iterator[Recognition]:
    if is_reader_name(data):
        yield Recognition("reader", "classify", "it is the name of a timm reader")
        return
    path = Path(data)
    if not os.path.exists(data):  # unlike Path.exists, no error for a name that is too long for a file
        if data in DENSE_SAMPLES:
            yield from (Recognition(name, TASKS[name], "it is a built-in sample") for name in ("coco", "label maps"))
        elif data in SAMPLES:
            yield Recognition("sample", "classify", "it is a built-in sample")
        else:
            samples = [*SAMPLES, *DENSE_SAMPLES]
            raise UserError(
                f"there is no folder and no sample {data!r}.{nearest(data, samples)} Accepted: a sample "
                f"({', '.join(samples)}); {'; '.join(ACCEPTED.values())}; or a timm reader name, such as hfds/NAME."
            )
        return
    part = next((part for part in coco_folders.find_coco(path) if part is not None), None)
    if part is not None:
        yield Recognition("coco", "detect", f"{part.annotations.name} is an annotation file in COCO's format")
    elif path.is_file():
        raise UserError(f"{path} is a file, and no annotation file in COCO's format. Give a folder.")
    if any(voc.find_voc(path)):
        yield Recognition("voc", "detect", "it holds Annotations/*.xml beside JPEGImages/, as Pascal VOC does")
    maps = next((part for part in label_maps.find_label_maps(path) if part is not None), None)
    if maps is not None:
        yield Recognition("label maps", "segment", f"{maps.maps} holds label maps of {maps.photographs}")
    yield Recognition("class folders", "classify", "it holds folders, and neither annotations nor label maps")
