"""Print the metrics of an evaluation and write its predictions."""

import csv
import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.detection import DetectionEvaluation, coco_results
from transxnet.metrics.intervals import Resampled
from transxnet.metrics.metric_names import METRIC_NAMES, format_interval, format_metric
from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.metrics.segmentation import SegmentationEvaluation
from transxnet.metrics.targets import ClassifierEvaluation
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import format_count
from transxnet.utils.text_files import read_json

MAX_PROBABILITIES = 10_000_000
"""Most probabilities in a file of predictions: about 120 MB."""


def print_metrics(console: Console, evaluation: Resampled, kind: str = "image", *, fitted_here: bool = False) -> None:
    """Print an evaluation's metrics with their intervals, and the number of its images.

    Args:
        console: console to print to.
        evaluation: the evaluation.
        kind: noun of the images.
        fitted_here: whether thresholds and temperature were fitted on these images.
    """
    metrics, intervals = evaluation.metrics(), evaluation.intervals
    none = "" if metrics else ": no metric, since no image has an object or label to compare with"
    console.print(f"\non {format_count(len(evaluation), kind)}{none}", **PLAIN)
    for name, text in METRIC_NAMES.items():
        if name in metrics:
            interval = format_interval(name, intervals.limits.get(name))
            console.print(f"  {text:<47}{format_metric(name, metrics[name]):>6}  {interval}".rstrip(), **PLAIN)
    for sentence in (*([intervals.method] if intervals.limits else []), *evaluation.describe_fitted(fitted_here)):
        console.print(f"  {sentence}", **PLAIN)


def results_content(evaluation: Resampled) -> dict[str, Any]:
    """Return the number of images, metrics, intervals, fitted choices and calibration as plain data."""
    content: dict[str, Any] = {"images": len(evaluation), **evaluation.metrics()}
    if evaluation.intervals.limits:
        content["intervals"] = evaluation.intervals.to_dict()
    if not isinstance(evaluation, ClassificationEvaluation | MultiLabelEvaluation):
        return content
    kinds = {"before": evaluation.calibration()}
    if evaluation.temperature is not None:
        content["fitted"] = {"temperature": evaluation.temperature, **evaluation.fitted_thresholds()}
        kinds["after"] = evaluation.calibration(scaled=True)
    content["calibration"] = {
        name: {key: values.tolist() for key, values in asdict(bins).items()} for name, bins in kinds.items()
    }
    return content


def write_classifier_predictions(path: Path, evaluation: ClassifierEvaluation) -> None:
    """Write a CSV of a classifier's predictions, with each image's name and true labels."""
    if isinstance(evaluation, ClassificationEvaluation):
        write_class_predictions(path, evaluation)
    elif isinstance(evaluation, MultiLabelEvaluation):
        write_label_predictions(path, evaluation)
    else:
        rows = zip(evaluation.names, evaluation.labels, evaluation.predictions, strict=True)
        numbers = ((name, f"{label:.9g}", f"{value:.9g}") for name, label, value in rows)
        _write_csv(path, ("name", "label", "predicted"), numbers)


def write_label_predictions(path: Path, evaluation: MultiLabelEvaluation) -> None:
    """Write a CSV of each image's name, and for each label its truth, its prediction and its probability.

    The columns are named ``label_NAME``, ``predicted_NAME`` and ``probability_NAME``. Unknown labels are empty.
    """
    rows = zip(evaluation.names, evaluation.labels, evaluation.predictions, evaluation.probabilities, strict=True)
    _write_csv(
        path,
        (
            "name",
            *(f"{kind}_{name}" for kind in ("label", "predicted", "probability") for name in evaluation.class_names),
        ),
        (
            (
                name,
                *("" if math.isnan(label) else f"{label:.0f}" for label in labels),
                *(f"{value:d}" for value in predicted),
                *(f"{value:.6f}" for value in probabilities),
            )
            for name, labels, predicted, probabilities in rows
        ),
    )


def write_class_predictions(path: Path, evaluation: ClassificationEvaluation) -> None:
    """Write a CSV of each image's name, label, prediction, its probability, and the probabilities of all classes.

    The columns of the classes are named ``probability_CLASS``. They are omitted if the file would have more than
    ``MAX_PROBABILITIES``, as for ImageNet's validation set: 50,000 images of 1,000 classes would take 600 MB.

    Nine significant digits restore each float32 exactly, so that metrics of the file are those of the model.
    """
    names = evaluation.class_names
    columns = names if evaluation.probabilities.size <= MAX_PROBABILITIES else []
    rows = zip(
        evaluation.names,
        evaluation.labels,
        evaluation.predictions,
        evaluation.confidence,
        evaluation.probabilities[:, : len(columns)],
        strict=True,
    )
    _write_csv(
        path,
        ("name", "label", "predicted", "probability", *(f"probability_{name}" for name in columns)),
        (
            (name, names[label], names[predicted], f"{confidence:.9g}", *(f"{value:.9g}" for value in values))
            for name, label, predicted, confidence, values in rows
        ),
    )


def read_class_predictions(path: Path, class_names: list[str]) -> ClassificationEvaluation:
    """Read the file of :func:`write_class_predictions`.

    Raises:
        UserError: the file is damaged, has other classes, or lacks the probabilities of all classes.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        number = {name: i for i, name in enumerate(class_names)}
        names, labels = [row["name"] for row in rows], np.array([number[row["label"]] for row in rows], np.int64)
        columns = [[row[f"probability_{name}"] for name in class_names] for row in rows]
        probabilities = np.array(columns, np.float32).reshape(len(rows), len(class_names))
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is damaged or has no probabilities of all classes: {error}") from error
    return ClassificationEvaluation(class_names, names, labels, np.minimum(probabilities, 1))


def write_detections(path: Path, evaluation: DetectionEvaluation) -> None:
    """Write the detections in COCO's results format, with the ids of the annotation file.

    Detections of classes that the annotation file does not have are dropped, since it has no ids for them.
    """
    images = evaluation.images
    results = [
        result
        for i, detections in enumerate(evaluation.detections)
        for result in coco_results(detections, images.image_id(i), images.category_ids)
    ]
    write_atomic(path, json.dumps(results))


def read_detections(path: Path, images: DetectionSet) -> list[list[dict[str, Any]]]:
    """Read the detections in each image from the file of :func:`write_detections`, with their ``label`` from 1.

    Raises:
        UserError: the file is damaged, or has other images or classes.
    """
    position = {images.image_id(i): i for i in range(len(images))}
    label = {number: i for i, number in enumerate(images.category_ids, 1) if number is not None}
    results: list[list[dict[str, Any]]] = [[] for _ in position]
    names = ("bbox", "score", "segmentation")
    try:
        for each in read_json(path):
            own = {name: each[name] for name in names if name in each}
            results[position[each["image_id"]]].append({**own, "label": label[each["category_id"]]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged or has other images or classes: {error}") from error
    return results


def write_map_counts(path: Path, evaluation: SegmentationEvaluation) -> None:
    """Write a CSV of each image's name, mean IoU, and correct, true and predicted pixels of each class.

    The columns are named ``correct_CLASS``, ``true_CLASS`` and ``predicted_CLASS``. The mean IoU is empty if every
    pixel is ignored.
    """
    rows = zip(evaluation.images.own_names, evaluation.image_miou, evaluation.image_counts, strict=True)
    _write_csv(
        path,
        ("name", "miou", *_count_columns(evaluation.class_names)),
        (
            (name, "" if math.isnan(miou) else f"{miou:.6f}", *map(str, counts.ravel().tolist()))
            for name, miou, counts in rows
        ),
    )


def read_map_counts(path: Path, class_names: list[str]) -> tuple[list[str], np.ndarray]:
    """Read names and pixels (N, 3, K) from the file of :func:`write_map_counts`.

    Raises:
        UserError: the file is damaged or has other classes.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        names = [row["name"] for row in rows]
        counts = [[int(row[column]) for column in _count_columns(class_names)] for row in rows]
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is damaged or has no pixels of all classes: {error}") from error
    return names, np.array(counts, np.int64).reshape(len(rows), 3, len(class_names))


def _count_columns(class_names: Iterable[str]) -> list[str]:
    return [f"{kind}_{name}" for kind in ("correct", "true", "predicted") for name in class_names]


def _write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)

    write_atomic(path, write)
