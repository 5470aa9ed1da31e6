"""The files that ``predict`` writes, and reading their predictions back one by one."""

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from transxnet.metrics.detection import Detections
from transxnet.prediction.classifier_tables import ClassifierTable
from transxnet.prediction.file_predictions import FilePrediction
from transxnet.prediction.image_results import DetectedObjects, Segmentation
from transxnet.utils.files import ESCAPED_UTF8
from transxnet.utils.quantities import format_count
from transxnet.utils.tables import MAX_ROWS, html_table


@dataclass(frozen=True)
class StoredPredictions(os.PathLike):
    """The results of :func:`transxnet.predict` on disk.

    Iterating yields a :class:`~transxnet.prediction.file_predictions.FilePrediction` for each image, in order: its
    ``path``, its ``result`` or the ``error``. They are read one by one, so memory does not grow with their number. The
    values are those in the files: a :class:`~transxnet.prediction.image_results.Classification` has the ``top_k``
    classes only, and numbers are rounded as there. ``len()`` is the number of images, also unreadable ones.

    ``os.fspath`` and ``Path`` convert it to ``path``.

    Attributes:
        path: ``out``: the folder, or the Parquet file.
        files: the files and folders with the results.
        task: "classify", "detect" or "segment".
        images: number of images.
        table: how a classifier's predictions are stored; None for other tasks.
        channels: number of channels that the model reads; None for RGB.
    """

    path: Path
    files: list[Path]
    task: str
    images: int
    table: ClassifierTable | None = None
    channels: int | None = None

    @property
    def folder(self) -> Path:
        """Folder with the files."""
        return self.files[0].parent

    def __fspath__(self) -> str:
        return str(self.path)

    def __len__(self) -> int:
        return self.images

    def __iter__(self) -> Iterator[FilePrediction]:
        return map(self._with_channels, self._stored())

    def _stored(self) -> Iterator[FilePrediction]:
        if self.task == "detect":
            return _read_detections(self.folder)
        if self.task == "segment":
            return _read_label_maps(self.folder)
        assert self.table is not None
        if self.files[0].suffix.lower() == ".parquet":
            return _read_parquet(self.files, self.table)
        return _read_entries(self.folder / "predictions.jsonl", self.table)

    def _with_channels(self, prediction: FilePrediction) -> FilePrediction:
        """Return a prediction whose image is read in the channels of the model."""
        if prediction.result is None:
            return prediction
        return replace(prediction, result=replace(prediction.result, channels=self.channels))

    def _repr_html_(self) -> str:
        rows = [(each.path, repr(each.result) if each.error is None else each.error) for each in islice(self, MAX_ROWS)]
        more = f"; the first {MAX_ROWS}:" if len(self) > MAX_ROWS else ""
        return html_table(f"{self.path}: {format_count(len(self), 'image')}{more}", ("path", "result"), rows)


def _read_entries(path: Path, table: ClassifierTable) -> Iterator[FilePrediction]:
    with path.open(**ESCAPED_UTF8) as file:
        for line in file:
            entry = json.loads(line)
            name, error = entry["path"], entry.get("error")
            yield FilePrediction(name, None if error is not None else table.from_entry(name, entry), error)


def _read_parquet(files: list[Path], table: ClassifierTable) -> Iterator[FilePrediction]:
    import pyarrow.parquet as pq

    columns = ["path", *(name for name, _ in table.columns), "error"]
    for path in files:
        with pq.ParquetFile(path) as stored:
            for batch in stored.iter_batches(1024, columns=columns):
                for row in batch.to_pylist():
                    name, error = row["path"], row["error"]
                    yield FilePrediction(name, None if error is not None else table.from_row(name, row), error)


def _read_detections(folder: Path) -> Iterator[FilePrediction]:
    """Read both files in parallel: the detections are in the order of the images."""
    with (
        (folder / "images.json").open(**ESCAPED_UTF8) as images,
        (folder / "detections.json").open(**ESCAPED_UTF8) as detections,
    ):
        header = next(images).rstrip().removeprefix('{"categories": ').removesuffix(",")
        categories = json.loads(header)
        names = [category["name"] for category in categories]
        labels = {category["id"]: label for label, category in enumerate(categories, 1)}
        results = _entries(detections)
        following = next(results, None)
        for entry in _entries(images):
            found = []
            while following is not None and following["image_id"] == entry["id"]:
                found.append(following)
                following = next(results, None)
            path, error = entry["file_name"], entry.get("error")
            result = None if error is not None else DetectedObjects(names, path, _detections(found, labels))
            yield FilePrediction(path, result, error)


def _entries(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Iterate over the entries of a JSON list with one entry per line."""
    for line in lines:
        if line.startswith("{"):
            yield json.loads(line.rstrip().removesuffix(","))


def _detections(found: list[dict[str, Any]], labels: dict[int, int]) -> Detections:
    boxes = np.array([each["bbox"] for each in found], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = [each["segmentation"] for each in found if "segmentation" in each]
    return Detections(
        boxes,
        np.array([labels[each["category_id"]] for each in found], np.int64),
        np.array([each["score"] for each in found], np.float32),
        masks or None,
    )


def _read_label_maps(folder: Path) -> Iterator[FilePrediction]:
    names = (folder / "classes.txt").read_text(**ESCAPED_UTF8).split("\n")[:-1]
    with (folder / "predictions.csv").open(newline="", **ESCAPED_UTF8) as table:
        for row in csv.DictReader(table):
            if row["error"]:
                yield FilePrediction(row["path"], None, row["error"])
                continue
            with Image.open(folder / row["map"]) as image:
                yield FilePrediction(row["path"], Segmentation(names, row["path"], np.asarray(image)))
