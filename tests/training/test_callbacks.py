import json

import pytest

from tests.helpers.class_folders import QUICK as CLASSIFY
from tests.helpers.dense_data import DETECT, SEGMENT
from transxnet.runs.run_folder import Run
from transxnet.training.callbacks import EpochLog, GracefulStop, write_metrics
from transxnet.training.train import train
from transxnet.utils.errors import Interrupted


def test_epoch_log_restores_rows_and_seconds(tmp_path, quiet):
    log = EpochLog(Run(tmp_path), quiet)
    log.load_state_dict({"rows": [{"epoch": 1, "seconds": 5.0}], "seconds": 2.0})
    assert log.state_dict() == {"rows": [{"epoch": 1, "seconds": 5.0}], "seconds": 2.0}


@pytest.mark.parametrize("task", [pytest.param("detect", marks=pytest.mark.long), "classify"])
def test_best_epoch_is_a_validated_one(task, squares, photos, tmp_path, quiet):
    data, options = (squares, {**DETECT, "min_size": 32}) if task == "detect" else (photos, CLASSIFY)
    run = train(data, out=tmp_path / "run", console=quiet, **{**options, "epochs": 3, "val_every": 2})
    validated = [row["epoch"] for row in run.read_metrics() if any(name.startswith("val_") for name in row)]
    assert validated == [2]
    figure = "ap" if task == "detect" else "accuracy"
    value = run.read_metrics()[1][f"val_{figure}"]
    assert json.loads(run.results_file.read_text())[figure] == value  # the same weights, so the same digits


@pytest.mark.long
def test_epochs_without_validation_have_no_metrics(maps, tmp_path, console, recwarn):
    options = {**SEGMENT, "crop": 32, "epochs": 5, "val_every": 2, "select": "last"}
    run = train(maps, out=tmp_path / "run", lr=1e-3, console=console, **options)
    rows = run.read_metrics()
    figures = {"val_loss", "val_miou", "val_mean_accuracy", "val_pixel_accuracy"}
    assert [figures & set(row) for row in rows] == [set(), figures, set(), figures, set()]
    assert all("train_loss" in row for row in rows)
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("epoch ")]
    assert ["validation" in line for line in lines] == [False, True, False, True, False]
    assert json.loads(run.results_file.read_text())["images"] == 3
    assert not [warning for warning in recwarn if "monitored key" in str(warning.message)]


def test_metrics_file_round_trips_epochs_without_validation(tmp_path):
    run = Run(tmp_path)
    rows = [{"epoch": 1.0, "seconds": 2.5}, {"epoch": 2.0, "val_ap": 0.25, "seconds": 2.0}]
    write_metrics(run.metrics_file, rows)
    assert run.read_metrics() == rows
    assert run.metrics_file.read_text().splitlines()[0] == "epoch,val_ap,seconds"
    write_metrics(run.metrics_file, [])
    assert not run.metrics_file.exists()


def test_second_signal_stops_at_once(tmp_path):
    stop = GracefulStop(Run(tmp_path))
    stop._handle(2, None)
    assert stop.requested
    with pytest.raises(Interrupted, match=r"stopped immediately; .* --resume"):
        stop._handle(2, None)
