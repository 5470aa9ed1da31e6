"""Write the classes of image files as CSV and JSON Lines."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transxnet.prediction.file_predictions import FilePrediction
from transxnet.prediction.image_results import Classification
from transxnet.prediction.image_summary import ImageSummary
from transxnet.utils.files import ESCAPED_UTF8


def write_classes(predictions: Iterator[FilePrediction], folder: Path, k: int) -> Iterator[ImageSummary]:
    """Write ``predictions.csv`` and ``predictions.jsonl``, with the ``k`` most probable classes.

    Yields:
        The summary of each image.
    """
    with (
        (folder / "predictions.csv").open("w", newline="", **ESCAPED_UTF8) as table,
        (folder / "predictions.jsonl").open("w", **ESCAPED_UTF8) as lines,
    ):
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["path", *(f"{name}{i + 1}" for i in range(k) for name in ("class", "probability")), "error"])
        for prediction in predictions:
            top = prediction.result.top(k) if isinstance(prediction.result, Classification) else []
            cells = [cell for name, probability in top for cell in (name, f"{probability:.6f}")]
            writer.writerow([prediction.path, *cells, *[""] * (2 * k - len(cells)), prediction.error or ""])
            lines.write(json.dumps(_json_entry(prediction, top)) + "\n")
            text = ", ".join(f"{name} {probability:.1%}" for name, probability in top[:3])
            yield ImageSummary(prediction.path, text, [name for name, _ in top[:1]], prediction.error)


def _json_entry(prediction: FilePrediction, top: list[tuple[str, float]]) -> dict[str, Any]:
    if prediction.error is not None:
        return {"path": prediction.path, "error": prediction.error}
    return {"path": prediction.path, "top": [{"class": name, "probability": round(p, 6)} for name, p in top]}
