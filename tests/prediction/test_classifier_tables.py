"""Stored predictions of classes, labels and values, and those of exported files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from transxnet.data.samples.builtin_samples import SAMPLES
from transxnet.deploy.export import export
from transxnet.deploy.format_registry import read_metadata
from transxnet.metrics.targets import ClassTargets, MultiLabelTargets, RegressionTargets
from transxnet.prediction.classifier_tables import classifier_table
from transxnet.prediction.image_results import (
    MultiLabelClassification,
    Regression,
    classifier_prediction,
)
from transxnet.prediction.loaded_model import load
from transxnet.prediction.predict import predict
from transxnet.runs.run_folder import Run

CASES = {
    "classes": (ClassTargets(), ["a", "b", "c"], [0.25, 0.625, 0.125]),
    "multilabel": (MultiLabelTargets([0.2, 0.7, 0.1]), ["a", "b", "c"], [0.25, 0.625, 0.125]),
    "regression": (RegressionTargets(0.0, 1.0), ["mass"], [12.5]),
}


@pytest.fixture
def folder(tint_sample, tmp_path) -> Path:
    images = SAMPLES[tint_sample]().images
    (tmp_path / "images").mkdir()
    for i in range(5):
        images.image(i).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    return tmp_path / "images"


@pytest.fixture(params=["multilabel", "regression"])
def run(request) -> Run:
    return request.getfixturevalue({"multilabel": "labels_run", "regression": "values_run"}[request.param])


def numbers(result) -> np.ndarray:
    return result.probabilities if isinstance(result, MultiLabelClassification) else np.array([result.value])


@pytest.mark.parametrize("kind", list(CASES))
def test_predictions_are_restored_from_both_forms(kind):
    targets, names, outputs = CASES[kind]
    table = classifier_table(targets, names, top_k=2)
    prediction = classifier_prediction(targets, names, "x.png", np.array(outputs, np.float32))
    columns = [name for name, _ in table.columns]
    row = dict(zip(columns, table.values(prediction), strict=True))
    for restored in (table.from_row("x.png", row), table.from_entry("x.png", table.entry(prediction))):
        assert type(restored) is type(prediction) and restored.source == "x.png"
        assert repr(restored).replace(", 2 classes", ", 3 classes") == repr(prediction)
    assert table.cells(None) == [""] * len(columns)


def test_labels_reach_their_thresholds():
    targets, names, outputs = CASES["multilabel"]
    prediction = classifier_prediction(targets, names, "x.png", np.array(outputs, np.float32))
    assert prediction.labels == ["a", "c"]
    assert repr(prediction) == "MultiLabelClassification('a', 'c' of 3 labels)"
    table = classifier_table(targets, names, 5)
    assert table.cells(prediction) == ["a;c", "0.250000", "0.625000", "0.125000"]


def test_files_hold_what_the_loaded_model_predicts(run, folder, tmp_path, quiet):
    paths = sorted(folder.glob("[0-9].png"))
    expected = load(run.path).predict(paths)
    kind = {"multilabel": MultiLabelClassification, "regression": Regression}[run.read_config().targets]
    assert all(type(result) is kind for result in expected)
    for out in (tmp_path / "predictions", tmp_path / "predictions.parquet"):
        stored = predict(run.path, folder, out=out, workers=0, console=quiet)
        results = list(stored)
        assert [Path(each.path).name for each in results] == ["0.png", "1.png", "2.png", "3.png", "4.png", "broken.png"]
        assert results[-1].result is None and results[-1].error
        for mine, theirs in zip(results[:-1], expected, strict=True):
            np.testing.assert_allclose(numbers(mine.result), numbers(theirs), atol=2e-5)
            assert getattr(mine.result, "labels", None) == getattr(theirs, "labels", None)


def test_text_files_have_a_column_for_each_label(labels_run, folder, tmp_path, quiet, console):
    predict(labels_run.path, folder, out=tmp_path / "out", workers=0, console=console)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "labels", "probability_red", "probability_green", "error"]
    entry = json.loads((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()[0])
    assert set(entry) == {"path", "labels", "probabilities"} and set(entry["probabilities"]) == {"red", "green"}
    assert entry["labels"] == [name for name in rows[0]["labels"].split(";") if name]
    assert "predicted labels: " in console.file.getvalue()


def test_exported_file_predicts_as_the_run(run, folder, tmp_path, quiet):
    pytest.importorskip("onnxruntime")
    path = export(run.path, out=tmp_path / "model.onnx", data=folder, console=quiet)
    metadata, trained = read_metadata(path), load(run.path)
    assert metadata.targets == trained.targets.to_dict()
    images = sorted(folder.glob("[0-9].png"))
    for mine, theirs in zip(load(path).predict(images), trained.predict(images), strict=True):
        assert type(mine) is type(theirs)
        np.testing.assert_allclose(numbers(mine), numbers(theirs), rtol=1e-3, atol=1e-4)


def test_plots_show_labels_or_the_value(run, folder):
    result = load(run.path).predict(folder / "0.png")
    assert result.plot().width > result.image.width
    assert "<table>" in result._repr_html_()
