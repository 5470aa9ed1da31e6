"""Trainings on images with several labels, or with a value."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import target_data
from tests.helpers.class_folders import write_photos
from tests.helpers.stopped_training import stopped_before
from transxnet.evaluation.evaluate import evaluate
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.training.train import train
from transxnet.utils.errors import UserError

KINDS = ["multilabel", "regression"]


@pytest.fixture(params=KINDS)
def finished(request) -> Run:
    return request.getfixturevalue({"multilabel": "labels_run", "regression": "values_run"}[request.param])


def test_labels_are_learned(labels_run):
    results = labels_run.results
    assert results["macro_auroc"] > 0.85 and results["f1"] > 0.8
    config = labels_run.read_config()
    assert (config.targets, config.loss) == ("multilabel", "bce")


def test_values_are_learned_in_their_unit(values_run):
    results = values_run.results
    assert results["r2"] > 0.5 and results["mae"] < 10
    targets = load_model(values_run.path).targets
    assert 115 < targets.mean < 135 and 10 < targets.std < 20


def test_results_are_those_of_the_best_epoch(finished):
    results, rows = finished.results, finished.read_metrics()
    metric = {"multilabel": "macro_ap", "regression": "r2"}[finished.read_config().targets]
    best = max(rows, key=lambda row: row[f"val_{metric}"])
    logged = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
    del logged["loss"]
    assert {name: results[name] for name in logged} == pytest.approx(logged, abs=1e-9)


def test_report_shows_the_results(labels_run, values_run):
    text = labels_run.report_file.read_text()
    for name in ("macro_ap", "macro_auroc", "f1", "exact_match", "micro_ap", "micro_f1"):
        assert f"{100 * labels_run.results[name]:.1f}%" in text
    text = values_run.report_file.read_text()
    for name, form in {"mae": "#.4g", "rmse": "#.4g", "r2": ".3f", "spearman": ".3f"}.items():
        assert format(values_run.results[name], form) in text


def test_thresholds_of_the_validation_set_are_stored(labels_run, quiet):
    stored = json.loads(labels_run.model_file.read_text())["targets"]
    evaluation = evaluate(labels_run.path, console=quiet)
    assert stored["thresholds"] == evaluation.thresholds.tolist()
    assert evaluation.fitted().thresholds == pytest.approx(stored["thresholds"], abs=1e-6)
    assert evaluation.metrics() == pytest.approx({name: labels_run.results[name] for name in evaluation.metrics()})


def test_predictions_file_holds_all_probabilities(labels_run, quiet):
    evaluation = evaluate(labels_run.path, console=quiet)
    with labels_run.predictions_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == evaluation.names
    for i, name in enumerate(["red", "green"]):
        stored = np.array([row[f"probability_{name}"] for row in rows], float)
        np.testing.assert_allclose(stored, evaluation.probabilities[:, i], atol=1e-6)
        labels = np.array([row[f"label_{name}"] or "nan" for row in rows], float)
        np.testing.assert_array_equal(labels, evaluation.labels[:, i])
        predicted = np.array([row[f"predicted_{name}"] for row in rows], int)
        np.testing.assert_array_equal(predicted, evaluation.predictions[:, i])


def test_values_file_holds_labels_and_predictions(values_run, quiet):
    evaluation = evaluate(values_run.path, console=quiet)
    with values_run.predictions_file.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["label"]) for row in rows] == pytest.approx(evaluation.labels.tolist())
    assert [float(row["predicted"]) for row in rows] == pytest.approx(evaluation.predictions.tolist(), rel=1e-5)
    assert evaluation.metrics() == pytest.approx({name: values_run.results[name] for name in evaluation.metrics()})


@pytest.mark.parametrize("targets", KINDS)
def test_resumed_run_equals_the_uninterrupted_one(targets, tint_sample, tmp_path, quiet):
    options = {**target_data.OPTIONS, "targets": targets, "epochs": 2, "console": quiet}
    whole = train(tint_sample, out=tmp_path / "whole", **options)
    with stopped_before(5):
        train(tint_sample, out=tmp_path / "run", **options)
    run = train(resume=tmp_path / "run", console=quiet)
    mine, theirs = load_file(run.weights_file), load_file(whole.weights_file)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    for name in ("results_file", "model_file", "predictions_file"):
        assert getattr(run, name).read_text() == getattr(whole, name).read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(targets="classes"), "the labels of tints are multilabel, got targets classes"),
        (dict(targets="multilabel", loss="mse"), "loss must be bce or focal or asymmetric for targets multilabel"),
        (dict(loss="mse"), "loss must be bce or focal or asymmetric for targets multilabel, got mse"),
        (dict(targets="multilabel", mixup=0.2), "mixup and cutmix are for classes, got targets multilabel"),
        (dict(targets="regression", cutmix=0.2), "Use --mixup 0 and --cutmix 0"),
    ],
)
def test_unsuitable_options_are_refused(tint_sample, tmp_path, quiet, options, message):
    with pytest.raises(UserError, match=message):
        train(tint_sample, out=tmp_path / "run", console=quiet, **{**target_data.OPTIONS, **options})
    assert not (tmp_path / "run").exists()


WEIGHTED = {
    "classes": ("label", ["red", "blue"], "weighted_accuracy"),
    "multilabel": ("red,wet", ["0,1", "1,0"], "weighted_exact_match"),
    "regression": ("score", ["1", "3"], "weighted_mae"),
}


@pytest.mark.parametrize(
    "targets", ["classes", *(pytest.param(each, marks=pytest.mark.long) for each in ("multilabel", "regression"))]
)
def test_weight_column_counts_in_loss_and_metrics(targets, tmp_path, quiet):
    columns, labels, metric = WEIGHTED[targets]
    photos = write_photos(tmp_path / "photos", 12, names=("blue", "red"))
    paths = sorted(photos.rglob("*.png"))

    def trained(name, swapped, weight):
        """Train with the labels of the images of this weight as given, or swapped with each other."""
        rows = []
        for i, path in enumerate(paths):
            counted = i % 3 > 0
            label = labels[path.parent.name == "red" if counted else (i + swapped) % 2]
            rows.append(f"{path},{label},{1 if counted else weight},{'val' if i % 4 == 3 else 'train'}")
        (tmp_path / f"{name}.csv").write_text("\n".join([f"path,{columns},weight,split", *rows]))
        options = {**target_data.OPTIONS, "epochs": 1, "label_column": columns, "targets": targets}
        return train(tmp_path / f"{name}.csv", out=tmp_path / name, console=quiet, **options)

    ignored = [trained(f"ignored{i}", swapped, 0) for i, swapped in enumerate((False, True))]
    counted = [trained(f"counted{i}", swapped, 1) for i, swapped in enumerate((False, True))]
    for runs, equal in ((ignored, True), (counted, False)):
        mine, theirs = (load_file(run.weights_file) for run in runs)
        assert all(torch.equal(mine[name], theirs[name]) for name in mine) == equal
    assert metric in ignored[0].results
    plain = metric.removeprefix("weighted_")
    assert counted[0].results[metric] == pytest.approx(counted[0].results[plain], rel=1e-5)
