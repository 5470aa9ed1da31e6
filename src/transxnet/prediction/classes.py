"""Predicting the classes of any number of image files."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from transxnet.data.image_files import FilesDataset, Inputs
from transxnet.prediction.classifier_backends import Predictor
from transxnet.utils.files import ESCAPED_UTF8


@dataclass(frozen=True)
class Prediction:
    """What was said of one image.

    Attributes:
        path: of the file, or ``SHARD!MEMBER``.
        classes: the k likeliest, the likeliest first.
        probabilities: theirs, 0 to 1.
        error: why the image could not be read, or None.
    """

    path: str
    classes: list[str]
    probabilities: list[float]
    error: str | None = None


def predict_images(
    predictor: Predictor, inputs: Inputs, top_k: int = 5, batch_size: int = 32, workers: int = 0
) -> Iterator[Prediction]:
    """Predictions for the images that files, folders, globs and shards stand for, in order, in constant memory."""
    k = min(top_k, len(predictor.class_names))
    dataset = FilesDataset(inputs, predictor.preprocessing.transform(), batch_size)
    for names, errors, tensors in DataLoader(dataset, batch_size, num_workers=workers, collate_fn=_collate):
        values, indices = predictor.probabilities(tensors).topk(k, dim=1) if len(tensors) else ((), ())
        rows = iter(zip(values, indices, strict=True))
        for name, error in zip(names, errors, strict=True):
            if error is not None:
                yield Prediction(name, [], [], error)
                continue
            likeliest, which = next(rows)
            yield Prediction(name, [predictor.class_names[i] for i in which], [float(p) for p in likeliest])


def write_classes(predictions: Iterator[Prediction], folder: Path, k: int) -> Iterator[str | None]:
    """Write ``predictions.csv`` and ``predictions.jsonl``; of each image, which could not be read and why, or None."""
    with (
        (folder / "predictions.csv").open("w", newline="", **ESCAPED_UTF8) as table,
        (folder / "predictions.jsonl").open("w", **ESCAPED_UTF8) as lines,
    ):
        writer = csv.writer(table, lineterminator="\n")
        columns = (f"{what}{i + 1}" for i in range(k) for what in ("class", "probability"))
        writer.writerow(["path", *columns, "error"])
        for prediction in predictions:
            _write(writer, lines, prediction, k)
            yield None if prediction.error is None else f"{prediction.path}: {prediction.error}"


def _collate(items: list[tuple[str, Tensor | None, str | None]]) -> tuple[list[str], list[str | None], Tensor]:
    names, tensors, errors = zip(*items, strict=True)
    readable = [tensor for tensor in tensors if tensor is not None]
    return list(names), list(errors), torch.stack(readable) if readable else torch.empty(0)


def _write(table: Any, lines: TextIO, prediction: Prediction, k: int) -> None:
    pairs = list(zip(prediction.classes, prediction.probabilities, strict=True))
    cells = [cell for name, probability in pairs for cell in (name, f"{probability:.6f}")]
    table.writerow([prediction.path, *cells, *[""] * (2 * k - len(cells)), prediction.error or ""])
    content: dict[str, Any] = {"path": prediction.path}
    if prediction.error is not None:
        content["error"] = prediction.error
    else:
        content["top"] = [{"class": name, "probability": round(probability, 6)} for name, probability in pairs]
    lines.write(json.dumps(content) + "\n")
