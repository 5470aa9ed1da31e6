"""Predicting the classes of any number of image files."""

import csv
import glob
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from transxnet.data.folders import is_image
from transxnet.data.images import UnreadableImage, open_image
from transxnet.data.transforms import Transform
from transxnet.errors import UserError, check_at_least
from transxnet.tasks.inference import default_device, placed, probabilities
from transxnet.tasks.progress import progress_bar
from transxnet.tasks.run import TrainedModel, load_trained


@dataclass(frozen=True)
class Prediction:
    """What was said of one image.

    Attributes:
        path: of the file.
        classes: the k likeliest, the likeliest first.
        probabilities: theirs, 0 to 1.
        error: why the image could not be read, or None.
    """

    path: str
    classes: list[str]
    probabilities: list[float]
    error: str | None = None


def predict(
    model: str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    out: str | Path = "predictions",
    top_k: int = 5,
    batch_size: int = 32,
    workers: int = 2,
    file: str | Path | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> Path:
    """Predict the classes of images and write them as CSV and as JSON lines.

    Memory does not grow with the number of images. Files that cannot be read are reported in the results.

    Args:
        model: a run folder, or the name of a model with published ImageNet weights.
        images: files, folders (searched to any depth) and globs, any number.
        out: folder for ``predictions.csv`` and ``predictions.jsonl``.
        top_k: classes to give for each image.
        batch_size: images at once.
        workers: processes that decode.
        file: published weights on disk, for a model by name.
        overwrite: write over results of before.
        console: where to report; by default standard output.

    Returns:
        The folder.

    Raises:
        UserError: the model can't be opened, nothing was found, not one image could be read, or results exist already.
    """
    console = console or Console()
    check_at_least(1, top_k=top_k, batch_size=batch_size)
    check_at_least(0, workers=workers)
    inputs = [images] if isinstance(images, (str, Path)) else list(images)
    folder = Path(out)
    targets = [folder / "predictions.csv", folder / "predictions.jsonl"]
    existing = [t for t in targets if t.exists()]
    if existing and not overwrite:
        raise UserError(f"{existing[0]} exists already. Write over it by --overwrite, or choose another --out.")
    total = sum(1 for _ in find_images(inputs))
    if not total:
        raise UserError(f"no image found in {', '.join(map(str, inputs))}. Accepted: image files, folders and globs.")
    trained = load_trained(model, file)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}. Choose another with --out.") from error
    try:
        with progress_bar(console, "predicting", total) as advance:
            predictions = predict_images(trained, inputs, top_k, batch_size, workers)
            good, bad = _write_all(predictions, targets, min(top_k, len(trained.class_names)), advance)
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()
    console.print(f"{good:,} images predicted" + (f", {bad:,} could not be read (see the column error)" if bad else ""))
    for target in targets:
        console.print(f"  {target}", highlight=False, markup=False, soft_wrap=True)
    return folder


_TEXT = {"encoding": "utf-8", "errors": "backslashreplace"}
"""File names may hold bytes that are not text."""


def predict_images(
    trained: TrainedModel, inputs: Sequence[str | Path], top_k: int = 5, batch_size: int = 32, workers: int = 0
) -> Iterator[Prediction]:
    """Predictions for the images that files, folders and globs stand for, in order, in constant memory."""
    device = default_device()
    model, k = placed(trained.model, device), min(top_k, len(trained.class_names))
    dataset = _Files([str(i) for i in inputs], trained.preprocessing.transform(), batch_size)
    for names, errors, tensors in DataLoader(dataset, batch_size, num_workers=workers, collate_fn=_collate):
        values, indices = probabilities(model, tensors, device).topk(k, dim=1) if len(tensors) else ((), ())
        rows = iter(zip(values, indices, strict=True))
        for name, error in zip(names, errors, strict=True):
            if error is not None:
                yield Prediction(name, [], [], error)
                continue
            likeliest, which = next(rows)
            yield Prediction(name, [trained.class_names[i] for i in which], [float(p) for p in likeliest])


def find_images(inputs: Sequence[str | Path]) -> Iterator[str]:
    """The files that inputs stand for, one after the other.

    Args:
        inputs: a file is taken as it is; of a folder, the image files at any depth in order; of a glob, what it finds,
            in order.

    Raises:
        UserError: an input that is none of these.
    """
    for text in map(str, inputs):
        if os.path.isfile(text):
            yield text
        elif os.path.isdir(text):
            yield from _walk(text)
        elif glob.has_magic(text):
            found = False
            for name in sorted(glob.iglob(text, recursive=True)):
                if os.path.isfile(name):
                    found = True
                    yield name
            if not found:
                raise UserError(f"nothing matches {text!r}. Accepted: image files, folders and globs.")
        else:
            raise UserError(f"there is no file or folder {text!r}. Accepted: image files, folders and globs.")


def _walk(folder: str) -> Iterator[str]:
    for directory, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(directory, name) for name in sorted(files) if is_image(name))


class _Files(IterableDataset):
    """(path, image or None, error or None) of each file.

    Of n workers, each takes every n-th whole batch, so that the loader, which asks them in turn, keeps the order.
    """

    def __init__(self, inputs: Sequence[str], transform: Transform, batch_size: int):
        self.inputs, self.transform, self.batch_size = inputs, transform, batch_size

    def __iter__(self) -> Iterator[tuple[str, Tensor | None, str | None]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for i, path in enumerate(find_images(self.inputs)):
            if i // self.batch_size % workers != number:
                continue
            try:
                yield path, self.transform(open_image(path)), None
            except UnreadableImage as error:
                yield path, None, str(error)


def _collate(items: list[tuple[str, Tensor | None, str | None]]) -> tuple[list[str], list[str | None], Tensor]:
    names, tensors, errors = zip(*items, strict=True)
    readable = [tensor for tensor in tensors if tensor is not None]
    return list(names), list(errors), torch.stack(readable) if readable else torch.empty(0)


def _write_all(
    predictions: Iterator[Prediction], targets: Sequence[Path], k: int, advance: Callable[[int], None]
) -> tuple[int, int]:
    """Write CSV and JSON lines, which appear when they are whole; how many images could be read and how many not."""
    good = bad = 0
    with tempfile.TemporaryDirectory(dir=targets[0].parent) as scratch:
        parts = [Path(scratch, target.name) for target in targets]
        with parts[0].open("w", newline="", **_TEXT) as table, parts[1].open("w", **_TEXT) as lines:  # type: ignore[call-overload]
            writer = csv.writer(table, lineterminator="\n")
            columns = (f"{what}{i + 1}" for i in range(k) for what in ("class", "probability"))
            writer.writerow(["path", *columns, "error"])
            for prediction in predictions:
                _write(writer, lines, prediction, k)
                good, bad = good + (prediction.error is None), bad + (prediction.error is not None)
                advance(good + bad)
        if not good:
            raise UserError(f"none of the {bad} images could be read; the last: {prediction.path}: {prediction.error}")
        for part, target in zip(parts, targets, strict=True):
            part.replace(target)
    return good, bad


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
