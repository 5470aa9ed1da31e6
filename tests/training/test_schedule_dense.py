"""Validation now and then, rates that drop at milestones, and the flips that suit the data."""

import json

import pytest

from tests.helpers.class_folders import QUICK as CLASSIFY
from tests.helpers.dense_data import DETECT, SEGMENT
from transxnet.training.train import train


def test_epochs_without_validation_have_no_figures_of_it(maps, tmp_path, console, recwarn):
    options = {**SEGMENT, "crop": 32, "epochs": 5, "val_every": 2, "select": "last"}
    run = train(maps, out=tmp_path / "run", lr=1e-3, console=console, **options)
    rows = run.read_metrics()
    figures = {"val_loss", "val_miou", "val_mean_accuracy", "val_pixel_accuracy"}
    assert [figures & set(row) for row in rows] == [set(), figures, set(), figures, set()]
    assert all("train_loss" in row for row in rows)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("epoch ")]
    assert ["held-out" in line for line in lines] == [False, True, False, True, False]
    assert json.loads(run.results_file.read_text())["images"] == 3
    assert not [warning for warning in recwarn if "monitored key" in str(warning.message)]


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_best_epoch_is_one_that_was_validated(task, squares, photos, tmp_path, quiet):
    data, options = (squares, {**DETECT, "min_size": 32}) if task == "detect" else (photos, CLASSIFY)
    run = train(data, out=tmp_path / "run", console=quiet, **{**options, "epochs": 3, "val_every": 2})
    validated = [row["epoch"] for row in run.read_metrics() if any(name.startswith("val_") for name in row)]
    assert validated == [2]
    figure = "ap" if task == "detect" else "accuracy"
    value = run.read_metrics()[1][f"val_{figure}"]
    assert json.loads(run.results_file.read_text())[figure] == pytest.approx(value, abs=1e-6)


def test_the_rate_drops_to_a_tenth_at_each_milestone_as_published(maps, tmp_path, quiet, monkeypatch):
    """COCO's published schedule of 12 epochs: warm-up in the first, a tenth from the 9th, a hundredth from the 12th."""
    from transxnet.training.segmenter import Segmenter

    rates, step = [], Segmenter.optimizer_step

    def recorded(self, epoch, batch_idx, optimizer, *args, **kwargs):
        rates.append(optimizer.param_groups[-1]["lr"])
        step(self, epoch, batch_idx, optimizer, *args, **kwargs)

    monkeypatch.setattr(Segmenter, "optimizer_step", recorded)
    options = {
        **SEGMENT,
        "crop": 32,
        "epochs": 12,
        "val_every": 12,
        "ema_decay": 0.0,
        "milestones": "8,11",
        "warmup_epochs": 1.0,
    }
    run = train(maps, out=tmp_path / "run", lr=1e-2, warmup_lr=1e-3, console=quiet, **options)
    assert len(rates) == 36  # three updates an epoch
    assert rates[:3] == pytest.approx([1e-3, 4e-3, 7e-3], abs=1e-9)
    assert rates[3:] == pytest.approx([1e-2] * 21 + [1e-3] * 9 + [1e-4] * 3, abs=1e-9)
    assert run.read_config().milestones == "8,11"
