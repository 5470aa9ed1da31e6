"""Write detected objects in COCO's format, and label maps as images."""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from transxnet.data.datasets.unlabeled_dataset import describe_image_error
from transxnet.metrics.detection import MIN_SCORE, coco_results
from transxnet.prediction.file_predictions import FilePrediction
from transxnet.prediction.image_results import DetectedObjects, Segmentation
from transxnet.prediction.image_summary import ImageSummary
from transxnet.reports.drawing import indexed_map
from transxnet.utils.files import ESCAPED_UTF8

MAX_JPEG_SIDE = 65_500
"""Pillow writes no larger JPEG files."""


def write_detections(
    predictions: Iterator[FilePrediction], folder: Path, class_names: Sequence[str], min_score: float | None = None
) -> Iterator[ImageSummary]:
    """Write ``images.json``, ``detections.json`` and ``drawn/``.

    ``images.json`` has the images and categories in COCO's format and ``detections.json`` the results:
    ``COCO("images.json").loadRes("detections.json")`` of pycocotools reads them. ``drawn/`` has the images with the
    detections; small images are enlarged. Detections below ``min_score`` are dropped from both; without it only from
    the drawings, below 0.5.

    Yields:
        The summary of each image.
    """
    (folder / "drawn").mkdir()
    category_ids = range(1, len(class_names) + 1)
    categories = [{"id": i, "name": name} for i, name in zip(category_ids, class_names, strict=True)]
    with _JSONListWriter(folder / "detections.json") as results, _JSONListWriter(folder / "images.part") as images:
        for number, prediction in enumerate(predictions, 1):
            entry: dict[str, Any] = {"id": number, "file_name": prediction.path}
            result, error = prediction.result, prediction.error
            if isinstance(result, DetectedObjects):
                shown = result.filter(MIN_SCORE if min_score is None else min_score)
                error = _draw(partial(shown.plot, 0), folder / "drawn" / _unique_name(number, prediction.path, ".jpg"))
            if error is not None or not isinstance(result, DetectedObjects):
                images.add({**entry, "error": error})
                yield ImageSummary(prediction.path, error=error)
                continue
            images.add({**entry, "width": result.image.width, "height": result.image.height})
            if min_score is not None:
                result = result.filter(min_score)
            for found in coco_results(result.detections, number, category_ids):
                results.add(found)
            names = shown.labels
            objects = ", ".join(f"{times} {name}" for name, times in Counter(names).most_common())
            yield ImageSummary(prediction.path, objects or "no objects", names)
    with (
        (folder / "images.json").open("w", **ESCAPED_UTF8) as file,
        (folder / "images.part").open(**ESCAPED_UTF8) as part,
    ):
        file.write('{"categories": ' + json.dumps(categories) + ',\n"images": ')
        file.writelines(part)
        file.write("}\n")


def write_label_maps(
    predictions: Iterator[FilePrediction], folder: Path, class_names: Sequence[str]
) -> Iterator[ImageSummary]:
    """Write ``maps/``, ``drawn/``, ``classes.txt`` and ``predictions.csv``.

    ``maps/`` has indexed PNG files whose values are the classes, from 0, in the order of ``classes.txt``; ``drawn/``
    the images under the colors of their classes; ``predictions.csv`` the map and the most frequent class of each image.

    Yields:
        The summary of each image.
    """
    for name in ("maps", "drawn"):
        (folder / name).mkdir()
    (folder / "classes.txt").write_text("\n".join(class_names) + "\n", **ESCAPED_UTF8)
    with (folder / "predictions.csv").open("w", newline="", **ESCAPED_UTF8) as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["path", "map", "commonest", "share", "error"])
        for number, prediction in enumerate(predictions, 1):
            result, error = prediction.result, prediction.error
            name = _unique_name(number, prediction.path, ".png")
            if isinstance(result, Segmentation):
                error = _draw(result.plot, folder / "drawn" / Path(name).with_suffix(".jpg"))
            if error is not None or not isinstance(result, Segmentation):
                writer.writerow([prediction.path, "", "", "", error])
                yield ImageSummary(prediction.path, error=error)
                continue
            indexed_map(result.label_map, len(class_names)).save(folder / "maps" / name)
            shares = result.shares
            most_frequent = next(iter(shares))
            writer.writerow([prediction.path, f"maps/{name}", most_frequent, f"{shares[most_frequent]:.4f}", ""])
            largest = [f"{_class_text(name)}: {share:.0%}" for name, share in list(shares.items())[:3]]
            largest[0] += " of the pixels"
            yield ImageSummary(prediction.path, ", ".join(largest), [most_frequent])


def _class_text(name: str) -> str:
    """Return the name of a class, with "class" before a number."""
    return f"class {name}" if name.isdigit() else name


def _draw(plot: Callable[[], Image.Image], path: Path) -> str | None:
    """Draw a result and save it as JPEG, reduced to the format's largest sides; return the error of this image."""
    try:
        image = plot()
        image.thumbnail((MAX_JPEG_SIDE, MAX_JPEG_SIDE))
        image.save(path, quality=92)
    except (MemoryError, RuntimeError, ValueError) as error:
        return f"cannot be drawn: {describe_image_error(error)}"
    return None


class _JSONListWriter:
    """A JSON file of a list that is written entry by entry."""

    def __init__(self, path: Path):
        self._file = path.open("w", **ESCAPED_UTF8)
        self._separator = "["

    def __enter__(self) -> "_JSONListWriter":
        return self

    def add(self, entry: dict[str, Any]) -> None:
        self._file.write(self._separator + "\n" + json.dumps(entry))
        self._separator = ","

    def __exit__(self, *error: Any) -> None:
        self._file.write("\n]\n" if self._separator == "," else "[]\n")
        self._file.close()


def _unique_name(number: int, path: str, suffix: str) -> str:
    """Return a file name with the number of the image, since images in different folders may have the same name."""
    stem = Path(path).stem.encode("utf-8", "replace")[:100].decode(errors="ignore")
    return f"{number:06d}-{stem}{suffix}"
