import sys
from types import SimpleNamespace

import pytest

from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.loggers import TrackioLogger, create_loggers
from transxnet.utils.errors import UserError


def test_tensorboard_is_always_written(tmp_path):
    assert [type(logger).__name__ for logger in create_loggers(ClassifyConfig("photos"), Run(tmp_path))] == [
        "TensorBoardLogger"
    ]


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_missing_package_is_named(name, tmp_path, monkeypatch):
    if name == "trackio":
        monkeypatch.setitem(sys.modules, name, None)
    else:
        module = sys.modules[f"lightning.pytorch.loggers.{name}"]
        requirement = {"wandb": "_WANDB_AVAILABLE", "mlflow": "_MLFLOW_AVAILABLE"}[name]
        monkeypatch.setattr(module, requirement, False)
    with pytest.raises(UserError, match=f"pip install {name}"):
        create_loggers(ClassifyConfig("photos", logger=name), Run(tmp_path))


def test_unknown_logger_is_rejected(tmp_path):
    with pytest.raises(UserError, match="'wandb' or 'mlflow' or 'trackio', got 'wanda'"):
        create_loggers(ClassifyConfig("photos", logger="wanda"), Run(tmp_path))


def test_trackio_receives_options_and_metrics(monkeypatch):
    calls = []
    fake = SimpleNamespace(
        init=lambda **options: calls.append(("init", options)) or object(),
        log=lambda metrics, step: calls.append(("log", step, metrics)),
        finish=lambda: calls.append(("finish",)),
    )
    monkeypatch.setitem(sys.modules, "trackio", fake)
    logger = TrackioLogger("transxnet", "run-1")
    logger.log_hyperparams({"lr": 1e-3})
    logger.log_metrics({"loss": 0.5}, step=3)
    logger.finalize("success")
    assert calls == [
        ("init", {"project": "transxnet", "name": "run-1", "config": {"lr": 1e-3}, "resume": "allow"}),
        ("log", 3, {"loss": 0.5}),
        ("finish",),
    ]
