"""The public API changes only visibly to a reviewer, and runs of earlier versions still load."""

import io
import json

import pytest
import torch
from rich.console import Console

from tests.helpers.public_api import STORED, public
from tests.helpers.stored import FOLDER, stored_run
from transxnet.evaluation.evaluate import evaluate
from transxnet.metrics.metric_names import METRIC_NAMES
from transxnet.prediction.predict import predict
from transxnet.runs.load import FORMAT, load_model
from transxnet.runs.run_folder import Run
from transxnet.training.train import train
from transxnet.utils.errors import UserError

FORMATS = [int(folder.name.partition("-")[2]) for folder in sorted(FOLDER.glob("format-*"))]


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO())


@pytest.mark.parametrize("part", public())
def test_public_api_is_unchanged(part):
    """After an intended change, run: python -m tests.helpers.public_api"""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    now = json.loads(json.dumps(public()))
    assert now[part] == stored[part]
    assert now.keys() == stored.keys()


def test_each_format_has_a_stored_run():
    assert list(range(1, FORMAT + 1)) == FORMATS


@pytest.fixture(params=FORMATS)
def finished(request, tmp_path) -> Run:
    return stored_run(request.param, "finished", tmp_path)


def test_stored_run_reproduces_its_metrics(finished, console):
    figures = evaluate(finished.path, workers=0, console=console).metrics()
    results = json.loads(finished.results_file.read_text())
    stored = {name: value for name, value in results.items() if name in METRIC_NAMES}
    assert stored and {name: figures[name] for name in stored} == pytest.approx(stored, abs=1e-6)


def test_stored_run_reproduces_its_predictions(finished, console, tmp_path):
    """The validation images of ``predictions.csv``, to the digits stored there."""
    import csv

    with finished.predictions_file.open() as file:
        known = list(csv.DictReader(file))
    images = [tmp_path / "images" / row["name"] for row in known]
    out = predict(finished.path, images, out=tmp_path / "out", workers=0, console=console).folder
    with (out / "predictions.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [row["class1"] for row in told] == [row["predicted"] for row in known]
    for row, before in zip(told, known, strict=True):
        assert float(row["probability1"]) == pytest.approx(float(before["probability"]), abs=1e-4)


@pytest.mark.parametrize("number", FORMATS)
def test_stored_run_resumes(number, console, tmp_path):
    run = stored_run(number, "interrupted", tmp_path)
    before = run.read_metrics()
    done = train(resume=run.path, console=console)
    after = done.read_metrics()
    assert [row["epoch"] for row in after] == [1, 2, 3, 4]
    for old, new in zip(before[:1], after[:1], strict=True):
        assert new == pytest.approx(old, abs=1e-6)
    assert done.report_file.is_file()


def test_training_starts_from_a_stored_run(finished, console, tmp_path):
    config = finished.read_config()
    run = train(
        config.data, task="classify", model=config.model, checkpoint=str(finished.path), img_size=32, batch_size=8,
        epochs=1, lr=1e-9, warmup_lr=1e-9, min_lr=1e-9, ema_decay=0.0, workers=0, device="cpu", console=console,
        out=tmp_path / "new",
    )  # fmt: skip
    old, new = (load_model(folder).model for folder in (finished.path, run.path))
    for (name, one), other in zip(old.named_parameters(), new.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


@pytest.mark.parametrize("number", [FORMAT + 1, 1000])
def test_future_format_error_names_the_version_that_wrote_it(number, finished, console, tmp_path):
    description = json.loads(finished.model_file.read_text()) | {"format": number, "transxnet": "9.9"}
    finished.model_file.write_text(json.dumps(description))
    out = tmp_path / "out"
    for use in (
        lambda: evaluate(finished.path, console=console),
        lambda: predict(finished.path, tmp_path / "images", out=out, workers=0, console=console),
    ):
        with pytest.raises(UserError, match=r"was written by a newer transxnet \(9\.9\)\. Update this installation"):
            use()


def test_future_option_is_named(finished, console):
    finished.config_file.write_text(finished.config_file.read_text() + "teleport: true\n")
    with pytest.raises(UserError, match=r"config\.yaml is damaged or not part of a run: .*'teleport'"):
        train(resume=finished.path, console=console)
