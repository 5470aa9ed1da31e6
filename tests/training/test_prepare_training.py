import pytest
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers.logger import DummyLogger

from tests.helpers.class_folders import QUICK
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.extensions import NO_EXTENSIONS, Extensions
from transxnet.training.make_plan import make_plan
from transxnet.training.prepare_training import prepare_training
from transxnet.utils.errors import UserError


def prepared(photos, path, console, extensions=NO_EXTENSIONS, **options):
    plan = make_plan(ClassifyConfig(str(photos), **QUICK | {"device": "cpu"} | options), console)
    return prepare_training(plan, Run(path), console, extensions)


def test_nothing_is_written(photos, tmp_path, quiet):
    training = prepared(photos, tmp_path / "run", quiet)
    assert training.trainer.max_epochs == training.plan.config.epochs
    assert not (tmp_path / "run").exists()


def test_options_and_extensions_become_callbacks_and_loggers(photos, tmp_path, quiet):
    logger = DummyLogger()
    training = prepared(photos, tmp_path / "run", quiet, Extensions(loggers=[logger]), patience=3)
    assert [c.patience for c in training.trainer.callbacks if isinstance(c, EarlyStopping)] == [3]
    assert training.trainer.loggers[-1] is logger
    assert training.plan.notes[-1].startswith("not stored in the run folder")


def test_unsupported_precision_is_a_user_error(photos, tmp_path, quiet):
    with pytest.raises(UserError, match=r"does not support device cpu, .* precision 7-bit together"):
        prepared(photos, tmp_path / "run", quiet, precision="7-bit")
