"""Detectors and segmenters that were interrupted go on as if nothing had been."""

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.dense_data import DETECT, SEGMENT, write_coco_squares
from transxnet.runs.run_folder import Run
from transxnet.training.callbacks import GracefulStop
from transxnet.training.train import train
from transxnet.utils.errors import Interrupted, UserError

RANDOM = dict(lr=1e-3, ema_decay=0.9, vflip=0.5, photometric=True, epochs=3)
KINDS = {
    "retinanet": {**DETECT, **RANDOM, "min_size": 32, "drop_path_rate": 0.2, "val_every": 2},
    "segment": {**SEGMENT, **RANDOM, "crop": 32, "accumulate": 2, "select": "last"},
    "our network": {**SEGMENT, **RANDOM, "model": "transxnet_n", "crop": 32, "drop_path_rate": 0.2},
    "maskrcnn": {**DETECT, **RANDOM, "min_size": 32, "head": "maskrcnn"},
}


def ask(monkeypatch, step=None, epoch=None) -> None:
    """Ask for a stop, as Ctrl-C does, during a step or between two epochs."""

    def before_batch(self, trainer, module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == step:
            self._handle(2, None)

    def before_validation(self, trainer, module):
        if trainer.current_epoch == epoch:
            self._handle(2, None)

    monkeypatch.setattr(GracefulStop, "on_train_batch_start", before_batch)
    monkeypatch.setattr(GracefulStop, "on_validation_start", before_validation)


def same(one: Run, other: Run) -> None:
    mine, theirs = load_file(one.weights_file), load_file(other.weights_file)
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.read_metrics()] for run in (one, other)]
    assert len(rows[0]) == len(rows[1])
    for mine, theirs in zip(*rows, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-6)  # the mean losses are stored in single precision
    assert one.results_file.read_text() == other.results_file.read_text()
    for name in ("detections_file", "predictions_file"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert mine.is_file() == theirs.is_file()
        assert not mine.is_file() or mine.read_text() == theirs.read_text()


@pytest.fixture(
    scope="module",
    params=["retinanet", "segment", *(pytest.param(name, marks=pytest.mark.long) for name in list(KINDS)[2:])],
)
def whole(request, squares, maps, tmp_path_factory, quiet) -> Run:
    """A run that nothing interrupted."""
    options = KINDS[request.param]
    data = maps if options["task"] == "segment" else squares
    return train(data, out=tmp_path_factory.mktemp("whole") / "run", console=quiet, **options)


@pytest.mark.parametrize("where", [{"step": 1}, {"step": 4}, {"epoch": 1}], ids=str)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(whole, tmp_path, quiet, monkeypatch, where):
    config = whole.read_config().to_dict()
    options = {name: value for name, value in config.items() if name != "out"}
    with monkeypatch.context() as asked:
        ask(asked, **where)
        with pytest.raises(Interrupted, match=r"saved in .*last.ckpt. Go on with: transxnet train --resume"):
            train(out=tmp_path / "run", console=quiet, **options)
    run = Run(tmp_path / "run")
    assert not run.results_file.exists()
    steps = 3 * (where["epoch"] + 1) if "epoch" in where else where["step"] + 1
    saved = torch.load(run.last_checkpoint, weights_only=True)["global_step"]
    assert saved == (steps if options["accumulate"] == 1 else [0, 1, 1, 2, 3, 3, 4][steps])
    train(resume=run.path, console=quiet)
    same(run, whole)


def test_the_order_of_the_pictures_does_not_depend_on_the_workers(maps, tmp_path, quiet):
    options = {**KINDS["segment"], "epochs": 1, "accumulate": 1}
    one = train(maps, out=tmp_path / "one", console=quiet, **options)
    same(one, train(maps, out=tmp_path / "other", console=quiet, **{**options, "workers": 2}))


def test_a_drawn_split_is_kept(tmp_path, quiet, monkeypatch):
    data = write_coco_squares(tmp_path / "data", 8)
    options = {**DETECT, "min_size": 32, "val_fraction": 0.3}
    whole = train(data, out=tmp_path / "whole", console=quiet, **options)
    with monkeypatch.context() as asked:
        ask(asked, step=1)
        with pytest.raises(Interrupted):
            train(data, out=tmp_path / "run", console=quiet, **options)
    (data / "101.png").write_bytes((data / "1.png").read_bytes())  # no part of the data, as it has no annotation
    same(train(resume=tmp_path / "run", console=quiet), whole)
    assert (tmp_path / "run" / "split.csv").read_bytes() == whole.split_file.read_bytes()
    (data / "0.png").unlink()
    with pytest.raises(UserError, match=r"0.png"):
        train(resume=whole.path, console=quiet)
