"""The mean of the weights of several epochs."""

import json

import pytest
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file
from torch import nn

from tests.helpers.class_folders import QUICK
from tests.helpers.dense_data import DETECT, SEGMENT
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.averaging import EpochWeights
from transxnet.training.init_weights import model_weights
from transxnet.training.train import train
from transxnet.utils.errors import UserError

PLAIN = dict(min_scale=1.0, hflip=0.0, color_jitter=0.0, batch_size=6)
"""Options with which each training image always has the same pixels, and all of them fill whole batches."""


def stored(run: Run) -> dict[int, dict]:
    """The weights in a run's folder, by epoch."""
    return {
        int(path.stem.removeprefix("epoch-")): model_weights(torch.load(path, weights_only=True)["state_dict"])
        for path in sorted(run.averaged_folder.iterdir())
    }


def assert_mean(run: Run) -> None:
    saved, files = load_file(run.weights_file), stored(run).values()
    parameters = dict(load_model(run.path).model.named_parameters())
    for name in parameters:
        torch.testing.assert_close(saved[name], torch.stack([weights[name] for weights in files]).mean(0))
    assert any(not torch.equal(saved[name], weights[name]) for weights in files for name in parameters)


@pytest.mark.parametrize("ema_decay", [pytest.param(0.0, marks=pytest.mark.long), 0.9])
@pytest.mark.parametrize("which", [pytest.param("last", marks=pytest.mark.long), "best"])
def test_saved_weights_are_the_mean_of_the_stored_ones(which, ema_decay, photos, tmp_path, console):
    options = {**QUICK, "epochs": 4, "lr": 3e-3, "ema_decay": ema_decay}
    run = train(photos, out=tmp_path / "run", console=console, average=f"{which}=2", **options)
    rows = sorted(run.read_metrics(), key=lambda row: -row["epoch" if which == "last" else "val_accuracy"])
    epochs = sorted(round(row["epoch"]) for row in rows[:2])
    assert list(stored(run)) == epochs
    assert_mean(run)
    best = max(run.read_metrics(), key=lambda row: row["val_accuracy"])
    results = json.loads(run.results_file.read_text())
    assert (results["select"], results["averaged"]) == (f"{which}=2", epochs)
    assert results["best_epoch"]["epoch"] == best["epoch"]
    assert results["best_epoch"]["accuracy"] == best["val_accuracy"]
    text = f"mean of epochs {epochs[0]}, {epochs[1]} (best epoch: {best['epoch']:.0f}, validation accuracy "
    assert f"weights     {text}" in console.file.getvalue()
    page = run.report_file.read_text(encoding="utf-8")
    assert text in page
    assert ("The same images selected the weights" in page) == (which == "best")


def test_batchnorm_statistics_are_those_of_the_averaged_network(photos, tmp_path, quiet):
    class Keep(Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_index):
            if trainer.current_epoch == 0:
                images.append(batch[0])

    images: list[torch.Tensor] = []
    options = {**QUICK, **PLAIN, "epochs": 3, "lr": 3e-3}
    run = train(photos, out=tmp_path / "run", console=quiet, average="last=3", callbacks=[Keep()], **options)
    layers = list(load_model(run.path).model.modules())
    conv = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
    norm = next(layer for layer in layers if isinstance(layer, nn.BatchNorm2d))
    with torch.no_grad():
        values = conv(torch.cat(images))
    torch.testing.assert_close(norm.running_mean, values.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    per_batch = torch.stack([batch.var((0, 2, 3)) for batch in values.split(options["batch_size"])])
    torch.testing.assert_close(norm.running_var, per_batch.mean(0), rtol=1e-4, atol=1e-5)


def test_frozen_batchnorms_keep_their_statistics(photos, tmp_path, quiet):
    start = train(photos, out=tmp_path / "start", console=quiet, **{**QUICK, "epochs": 1})
    options = {**QUICK, "freeze": "stages=2", "checkpoint": start.path, "average": "last=2", "ema_decay": 0.0}
    run = train(photos, out=tmp_path / "run", console=quiet, **options)
    before, after = load_file(start.weights_file), load_file(run.weights_file)
    changed = {name for name in before if name.endswith("running_mean") and not torch.equal(before[name], after[name])}
    assert changed == {
        name for name in before if name.endswith("running_mean") and name.startswith(("layer3", "layer4"))
    }


@pytest.mark.long
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_detectors_and_segmenters_are_averaged(task, squares, maps, tmp_path, quiet):
    data, options = (squares, DETECT | dict(min_size=32)) if task == "detect" else (maps, SEGMENT | dict(crop=32))
    run = train(data, out=tmp_path / "run", console=quiet, average="last=2", **{**options, "epochs": 2, "lr": 1e-3})
    assert_mean(run)
    assert run.results["images"] > 0


def test_patience_averages_the_last_trained_epochs(photos, tmp_path, quiet):
    still = {"lr": 0, "min_lr": 0, "warmup_lr": 0}  # never better than epoch 1
    options = {**QUICK, **still, "model": "test_vit", "epochs": 9, "patience": 2, "average": "last=2"}
    run = train(photos, out=tmp_path / "run", console=quiet, **options)
    assert list(stored(run)) == [2, 3]


def test_best_epochs_are_validated_ones(photos, tmp_path, quiet):
    options = {**QUICK, "epochs": 5, "val_every": 2, "average": "best=3"}
    run = train(photos, out=tmp_path / "run", console=quiet, **options)
    assert run.results["averaged"] == [2, 4]


def test_longer_run_averages_its_last_epochs(photos, tmp_path, quiet):
    run = train(photos, out=tmp_path / "run", console=quiet, average="last=2", **QUICK)
    train(resume=run.path, epochs=3, console=quiet)
    assert run.results["averaged"] == [2, 3]
    assert_mean(run)


def test_missing_weights_are_named(photos, tmp_path, console):
    run = train(photos, out=tmp_path / "run", console=console, average="last=2", **QUICK)
    (run.averaged_folder / "epoch-000001.ckpt").unlink()
    train(resume=run.path, console=console)
    assert "epoch-000001.ckpt is missing. The weights of the other epochs will be averaged." in console.file.getvalue()
    assert run.results["averaged"] == [2]


def test_damaged_weights_name_the_next_step(photos, tmp_path, quiet):
    run = train(photos, out=tmp_path / "run", console=quiet, average="last=2", **QUICK)
    (run.averaged_folder / "epoch-000001.ckpt").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot load the weights of the averaged epochs: .*set average to null in"):
        train(resume=run.path, console=quiet)


def test_files_of_epochs_that_are_trained_again_are_removed(tmp_path, quiet):
    weights = EpochWeights(Run(tmp_path), "last", 2, "val_accuracy", quiet)
    tmp_path.joinpath("averaged").mkdir()
    for name in ("epoch-000001.ckpt", "epoch-000002.ckpt", f".epoch-000002.ckpt.{'0' * 32}"):
        tmp_path.joinpath("averaged", name).write_bytes(b"")
    known = {"/moved/averaged/epoch-000001.ckpt": torch.tensor(0.0)}
    paths = dict.fromkeys(("best_model_path", "kth_best_model_path", "last_model_path"), "")
    state = weights.state_dict() | paths | {"best_k_models": known, "dirpath": "/moved/averaged"}
    weights.load_state_dict(state)
    assert [path.name for path in tmp_path.joinpath("averaged").iterdir()] == ["epoch-000001.ckpt"]
    assert list(weights.files) == [1]


def test_foreign_files_are_never_removed(tmp_path, quiet):
    weights = EpochWeights(Run(tmp_path), "last", 2, "val_accuracy", quiet)
    state = weights.state_dict() | {"best_k_models": {"/etc/passwd": torch.tensor(0.0)}}
    with pytest.raises(UserError, match=r"names '/etc/passwd' as the best checkpoint\. Accepted: epoch-\*\.ckpt"):
        weights.load_state_dict(state)


@pytest.mark.parametrize("value", ["5", "first=5", "last=0", "best=", "best=x"])
def test_other_averages_are_refused(value):
    with pytest.raises(UserError, match=r"average must be last=N or best=N"):
        ClassifyConfig("photos", average=value)


def test_average_needs_its_epochs_and_validation_images(photos, quiet):
    with pytest.raises(UserError, match=r"at most the number of epochs \(3\), got last=4"):
        ClassifyConfig("photos", epochs=3, average="last=4")
    with pytest.raises(UserError, match=r"--average best=2 needs validation images.* Remove --average"):
        train(photos, console=quiet, average="best=2", val_fraction=0, **QUICK)
