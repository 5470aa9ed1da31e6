"""Classify image files and write the classes as CSV and JSON Lines."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from transxnet.data.datasets.unlabeled_dataset import UnlabeledDataset
from transxnet.data.reading.image_search import Inputs
from transxnet.prediction.image_classifier import ImageClassifier
from transxnet.prediction.image_summary import ImageSummary
from transxnet.utils.files import ESCAPED_UTF8


@dataclass(frozen=True)
class ClassPrediction:
    """The most probable classes of one image.

    Attributes:
        path: path of the file, or ``SHARD!MEMBER``.
        classes: names of the top k classes, the most probable first.
        probabilities: probabilities of these classes, 0 to 1.
        error: error if the image could not be read, or None.
    """

    path: str
    classes: list[str]
    probabilities: list[float]
    error: str | None = None


def classify_images(
    classifier: ImageClassifier, inputs: Inputs, top_k: int = 5, batch_size: int = 32, workers: int = 0
) -> Iterator[ClassPrediction]:
    """Classify the images of files, folders, globs and shards, in order and in constant memory."""
    k = min(top_k, len(classifier.class_names))
    dataset = UnlabeledDataset(inputs, classifier.preprocessing.transform(), batch_size)
    for names, errors, images in DataLoader(dataset, batch_size, num_workers=workers, collate_fn=_collate):
        values, indices = classifier.probabilities(images).topk(k, dim=1) if len(images) else ((), ())
        rows = iter(zip(values, indices, strict=True))
        for name, error in zip(names, errors, strict=True):
            if error is not None:
                yield ClassPrediction(name, [], [], error)
                continue
            probabilities, top = next(rows)
            yield ClassPrediction(name, [classifier.class_names[i] for i in top], probabilities.tolist())


def write_classes(predictions: Iterator[ClassPrediction], folder: Path, k: int) -> Iterator[ImageSummary]:
    """Write ``predictions.csv`` and ``predictions.jsonl``.

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
            writer.writerow(_csv_row(prediction, k))
            lines.write(json.dumps(_json_entry(prediction)) + "\n")
            pairs = zip(prediction.classes[:3], prediction.probabilities, strict=False)
            text = ", ".join(f"{name} {probability:.1%}" for name, probability in pairs)
            yield ImageSummary(prediction.path, text, prediction.classes[:1], prediction.error)


def _collate(items: list[tuple[str, Tensor | None, str | None]]) -> tuple[list[str], list[str | None], Tensor]:
    names, tensors, errors = zip(*items, strict=True)
    readable = [tensor for tensor in tensors if tensor is not None]
    return list(names), list(errors), torch.stack(readable) if readable else torch.empty(0)


def _csv_row(prediction: ClassPrediction, k: int) -> list[str]:
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    cells = [cell for name, probability in pairs for cell in (name, f"{probability:.6f}")]
    return [prediction.path, *cells, *[""] * (2 * k - len(cells)), prediction.error or ""]


def _json_entry(prediction: ClassPrediction) -> dict[str, Any]:
    if prediction.error is not None:
        return {"path": prediction.path, "error": prediction.error}
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    return {"path": prediction.path, "top": [{"class": name, "probability": round(p, 6)} for name, p in pairs]}
