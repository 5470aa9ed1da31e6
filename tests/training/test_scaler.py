"""The scaler of half-precision gradients goes on where it stood. PyTorch has one for the CPU, Lightning does not."""

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from tests.helpers.class_folders import QUICK
from transxnet.training import train as training
from transxnet.training.callbacks import GracefulStop
from transxnet.training.train import train
from transxnet.utils.errors import Interrupted


@pytest.fixture
def half_precision(monkeypatch):
    """Trainings with a scaler, which starts so high that it is lowered, and grows again soon."""
    trainer = training.Trainer

    def make(*, plugins, precision, **options):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**19, growth_interval=2)
        return trainer(plugins=[*plugins, MixedPrecision("16-mixed", "cpu", scaler)], **options)

    monkeypatch.setattr(training, "Trainer", make)


def test_the_scaler_goes_on(half_precision, photos, tmp_path, quiet, monkeypatch):
    options = {**QUICK, "select": "last"}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)

    def ask(self, trainer, module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == 5:
            self._handle(2, None)

    with monkeypatch.context() as asked:
        asked.setattr(GracefulStop, "on_train_batch_start", ask)
        with pytest.raises(Interrupted):
            train(photos, out=tmp_path / "run", console=quiet, **options)
    run = train(resume=tmp_path / "run", console=quiet)
    mine, theirs = (torch.load(r.last_checkpoint, weights_only=True) for r in (run, whole))
    assert mine["MixedPrecision"] == theirs["MixedPrecision"]
    assert theirs["MixedPrecision"]["scale"] < 2.0**19
    assert all(torch.equal(mine["state_dict"][name], tensor) for name, tensor in theirs["state_dict"].items())
