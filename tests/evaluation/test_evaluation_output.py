"""The printed metrics, and the prediction files against their evaluations."""

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from transxnet.data.datasets.detection_dataset import DetectionSet, Objects
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.evaluation import evaluation_output
from transxnet.evaluation.evaluation_output import (
    print_metrics,
    read_class_predictions,
    read_detections,
    read_map_counts,
    results_content,
    write_class_predictions,
    write_detections,
    write_map_counts,
)
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.detection import DetectionEvaluation, Detections
from transxnet.metrics.segmentation import SegmentationEvaluation
from transxnet.metrics.targets import ClassTargets
from transxnet.utils.errors import UserError


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_print_metrics_prints_known_metrics_in_percent():
    console = Console(file=StringIO(), width=20)
    labels = np.repeat([0, 1], [1000, 234])
    evaluation = ClassTargets().fit(
        ClassificationEvaluation(["a", "b"], [""] * 1234, labels, np.tile(np.float32([0.75, 0.25]), (1234, 1)))
    )[1]
    print_metrics(console, evaluation, fitted_here=True)
    lines = console.file.getvalue().splitlines()
    assert lines[1] == "on 1,234 images"
    low, high = evaluation.intervals.limits["accuracy"]
    assert lines[2].split() == ["accuracy", "81.0%", f"{low:.1%}", "to", f"{high:.1%}"]
    assert lines[3].split()[-1] == "81.0%"
    assert lines[-3] == "  95% intervals: bootstrap over 1,234 images, 20 resamples, seed 0."
    assert lines[-2].startswith("  Threshold of sensitivity and specificity: probability of b of 0.125, the highest")
    assert lines[-1].endswith("fitted on these images, so its metrics are optimistic here.")


def test_results_have_intervals_fitted_choices_and_calibration():
    labels, second = np.array([0, 0, 1, 1, 0]), np.array([0.1, 0.4, 0.3, 0.8, 0.2], np.float32)
    evaluation = ClassificationEvaluation(["a", "b"], list("vwxyz"), labels, np.c_[1 - second, second])
    before, after = (results_content(each) for each in (evaluation, ClassTargets().fit(evaluation)[1]))
    assert set(before["calibration"]) == {"before"} and "fitted" not in before
    assert after["fitted"]["positive"] == "b" and after["fitted"]["threshold"] == pytest.approx(0.25)
    assert set(after["calibration"]["after"]) == {"confidence", "accuracy", "share"}
    assert after["intervals"]["units"] == after["images"] == 5
    assert json.loads(json.dumps(after)) == after


def test_class_predictions_hold_every_image(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5).astype(np.float32)
    names = ['a "b", c\nd.png', *(f"{i}.png" for i in range(4))]
    e = ClassificationEvaluation([f"class {i}" for i in range(3)], names, np.array([0, 1, 2, 1, 0]), probabilities)
    write_class_predictions(tmp_path / "predictions.csv", e)
    rows = read_rows(tmp_path / "predictions.csv")
    assert [row["name"] for row in rows] == e.names
    assert [row["predicted"] for row in rows] == [f"class {i}" for i in e.predictions]
    assert [row["label"] for row in rows] == [f"class {i}" for i in e.labels]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], e.probabilities.max(axis=1), atol=1e-6)
    columns = [[float(row[f"probability_class {i}"]) for i in range(3)] for row in rows]
    np.testing.assert_allclose(columns, e.probabilities, atol=1e-6)


def test_large_class_predictions_omit_the_other_probabilities(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation_output, "MAX_PROBABILITIES", 3)
    e = ClassificationEvaluation(["a", "b"], ["0", "1"], np.array([0, 1]), np.full((2, 2), 0.5, np.float32))
    write_class_predictions(tmp_path / "predictions.csv", e)
    assert list(read_rows(tmp_path / "predictions.csv")[0]) == ["name", "label", "predicted", "probability"]


@pytest.mark.parametrize(("category_ids", "written"), [([7, 3], 3), ([7, 0], 0), ([7, None], None)])
def test_detections_have_the_category_ids_of_the_file(tmp_path, category_ids, written):
    objects = Objects(*(np.zeros(shape, kind) for shape, kind in [((0, 4), float), *((0, k) for k in "ifbi")]))
    images = DetectionSet(
        FileImages(["a", "b"]),
        names=["a", "b"],
        sizes=np.full((2, 2), 50),
        image_ids=np.array([11, 12]),
        objects=objects,
        first=np.zeros(3, int),
        class_names=["cat", "dog"],
        category_ids=category_ids,
    )
    found = Detections(np.array([[1, 2, 4, 8]], np.float32), np.array([2]), np.array([0.25], np.float32))
    nothing = replace(found, boxes=found.boxes[:0], labels=found.labels[:0], scores=found.scores[:0])
    evaluation = DetectionEvaluation(images, [nothing, found], {}, {}, {}, np.zeros(2))
    write_detections(tmp_path / "detections.json", evaluation)
    expected = {"image_id": 12, "category_id": written, "bbox": [1, 2, 3, 6], "score": 0.25}
    assert json.loads((tmp_path / "detections.json").read_text()) == ([] if written is None else [expected])
    read = {"bbox": [1, 2, 3, 6], "score": 0.25, "label": 2}
    assert read_detections(tmp_path / "detections.json", images) == [[], [] if written is None else [read]]
    if written is not None:
        with pytest.raises(UserError, match=r"detections\.json is damaged or has other images or classes: 12"):
            read_detections(tmp_path / "detections.json", images.subset(np.array([0])))


def test_pixels_of_maps_are_read_as_they_were_written(tmp_path):
    stems = ["a", "b,c"]
    images = SegmentationSet(stems, stems, ["x"], stems, np.zeros(256, np.uint8))
    counts = np.array([[[0], [0], [0]], [[2], [3], [2]]])
    evaluation = SegmentationEvaluation(images, np.zeros((1, 1)), counts, [])
    write_map_counts(tmp_path / "predictions.csv", evaluation)
    rows = read_rows(tmp_path / "predictions.csv")
    assert [(row["name"], row["miou"]) for row in rows] == [("a", ""), ("b,c", "0.666667")]  # all pixels are ignored
    names, read = read_map_counts(tmp_path / "predictions.csv", ["x"])
    assert names == stems and (read == counts).all()
    with pytest.raises(UserError, match="has no pixels of all classes: 'correct_y'"):
        read_map_counts(tmp_path / "predictions.csv", ["y"])


def test_class_predictions_are_read_as_they_were_written(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3) / 9, 50).astype(np.float32)
    e = ClassificationEvaluation(["a", "b,c", "d"], [f"{i}\n.png" for i in range(50)], np.arange(50) % 3, probabilities)
    write_class_predictions(tmp_path / "predictions.csv", e)
    read = read_class_predictions(tmp_path / "predictions.csv", e.class_names)
    assert read.names == e.names
    np.testing.assert_array_equal(read.labels, e.labels)
    np.testing.assert_array_equal(read.probabilities, e.probabilities)


@pytest.mark.parametrize(
    "text", ["name,label\nx,a\n", "name,label,probability_a\nx,other,1\n", "name,label,probability_a\nx,a,?\n"]
)
def test_damaged_class_predictions_are_an_error(tmp_path, text):
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(UserError, match=r"predictions\.csv is damaged or has no probabilities of all classes"):
        read_class_predictions(tmp_path / "predictions.csv", ["a"])
