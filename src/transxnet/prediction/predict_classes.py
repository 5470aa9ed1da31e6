"""Write a classifier's predictions for image files as CSV and JSON Lines."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from transxnet.prediction.classifier_tables import ClassifierTable
from transxnet.prediction.file_predictions import FilePrediction
from transxnet.prediction.image_summary import ImageSummary
from transxnet.utils.files import ESCAPED_UTF8


def write_classes(
    predictions: Iterator[FilePrediction], folder: Path, table: ClassifierTable
) -> Iterator[ImageSummary]:
    """Write ``predictions.csv`` and ``predictions.jsonl``.

    Yields:
        The summary of each image.
    """
    with (
        (folder / "predictions.csv").open("w", newline="", **ESCAPED_UTF8) as cells,
        (folder / "predictions.jsonl").open("w", **ESCAPED_UTF8) as lines,
    ):
        writer = csv.writer(cells, lineterminator="\n")
        writer.writerow(["path", *(name for name, _ in table.columns), "error"])
        for path, result, error in ((each.path, each.result, each.error) for each in predictions):
            writer.writerow([path, *table.cells(result), error or ""])
            lines.write(json.dumps({"path": path, **({"error": error} if error else table.entry(result))}) + "\n")
            text, counted = ("", []) if error else table.summary(result)
            yield ImageSummary(path, text, counted, error)
