"""Interrupted trainings resume with the results of uninterrupted ones."""

import shutil
import signal

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from safetensors.torch import load_file

from tests.helpers.class_folders import QUICK, write_photos
from tests.helpers.dense_data import DETECT, SEGMENT, write_coco_squares
from transxnet.runs.run_folder import Run
from transxnet.training import train as training
from transxnet.training.callbacks import GracefulStop
from transxnet.training.train import train
from transxnet.utils.errors import Interrupted, UserError

RANDOM = dict(
    **QUICK, lr=3e-3, mixup=0.3, cutmix=0.5, drop_path_rate=0.3, drop_rate=0.2, random_erasing=0.3, color_jitter=0.4,
    ema_decay=0.9, select="last",
)  # fmt: skip
RANDOM["epochs"] = 3


KINDS = {"plain": {}, "accumulating": {"accumulate": 2}, "without average": {"ema_decay": 0.0, "select": "best"}}


DENSE_RANDOM = dict(lr=1e-3, ema_decay=0.9, vflip=0.5, photometric=True, epochs=3)


DENSE_KINDS = {
    "retinanet": {**DETECT, **DENSE_RANDOM, "min_size": 32, "drop_path_rate": 0.2, "val_every": 2},
    "segment": {**SEGMENT, **DENSE_RANDOM, "crop": 32, "accumulate": 2, "select": "last"},
    "our network": {**SEGMENT, **DENSE_RANDOM, "model": "transxnet_n", "crop": 32, "drop_path_rate": 0.2},
    "maskrcnn": {**DETECT, **DENSE_RANDOM, "min_size": 32, "head": "maskrcnn"},
}


@pytest.fixture(scope="module", params=list(KINDS))
def whole(request, photos, tmp_path_factory, quiet) -> Run:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(photos, out=out, console=quiet, **{**RANDOM, **KINDS[request.param]})


@pytest.fixture(
    scope="module",
    params=["retinanet", "segment", *(pytest.param(name, marks=pytest.mark.long) for name in list(DENSE_KINDS)[2:])],
)
def dense_whole(request, squares, maps, tmp_path_factory, quiet) -> Run:
    """An uninterrupted run."""
    options = DENSE_KINDS[request.param]
    data = maps if options["task"] == "segment" else squares
    return train(data, out=tmp_path_factory.mktemp("whole") / "run", console=quiet, **options)


@pytest.fixture
def ask(monkeypatch):
    """Request a stop, as Ctrl-C does, during a step or between two epochs."""

    def before_batch(self, trainer, module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.step:
            self._handle(2, None)

    def before_validation(self, trainer, module):
        if trainer.current_epoch == self.epoch:
            self._handle(2, None)

    def at(step=None, epoch=None):
        GracefulStop.step, GracefulStop.epoch = step, epoch
        monkeypatch.setattr(GracefulStop, "on_train_batch_start", before_batch)
        monkeypatch.setattr(GracefulStop, "on_validation_start", before_validation)

    yield at
    GracefulStop.step = GracefulStop.epoch = None


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


@pytest.mark.parametrize(
    "where", [{"step": 0}, {"step": 4}, {"step": 5}, {"step": 7}, {"epoch": 0}, {"epoch": 1}, {"step": 11}], ids=str
)
def test_resumed_run_equals_the_uninterrupted_one(whole, photos, tmp_path, quiet, ask, where):
    config = whole.read_config().to_dict()
    options = {name: value for name, value in config.items() if name not in ("data", "out")}
    ask(**where)
    with pytest.raises(Interrupted, match=r"Resume with: transxnet train --resume"):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    run = Run(tmp_path / "run")
    assert not run.results_file.exists()
    saved = torch.load(run.last_checkpoint, weights_only=True)["global_step"]
    steps = 4 * (where["epoch"] + 1) if "epoch" in where else (where["step"] + 1)
    assert saved == -(-steps // options["accumulate"])
    ask()
    train(resume=run.path, console=quiet)
    same(run, whole)


@pytest.mark.long
def test_run_interrupted_repeatedly_equals_the_whole_one(photos, tmp_path, quiet, ask):
    whole = train(photos, out=tmp_path / "whole", console=quiet, **RANDOM)
    ask(step=1)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **RANDOM)
    for step in (2, 6, 8):
        ask(step=step)
        with pytest.raises(Interrupted):
            train(resume=tmp_path / "run", console=quiet)
    ask()
    same(train(resume=tmp_path / "run", console=quiet), whole)


def test_signal_handlers_are_restored(photos, tmp_path, quiet, ask):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(photos, out=tmp_path / "whole", console=quiet, **QUICK)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    ask(step=1)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **QUICK)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.long
def test_resumed_transxnet_equals_the_uninterrupted_one(photos, tmp_path, quiet, ask):
    options = {**RANDOM, "model": "transxnet_n", "epochs": 2, "batch_size": 16}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    ask(step=2)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    ask()
    same(train(resume=tmp_path / "run", console=quiet), whole)


def test_training_does_not_depend_on_the_workers(photos, tmp_path, quiet):
    one = train(photos, out=tmp_path / "one", console=quiet, **RANDOM)
    other = train(photos, out=tmp_path / "other", console=quiet, **{**RANDOM, "workers": 2})
    same(one, other)


def test_resuming_a_finished_run_rewrites_its_results(photos_run, tmp_path, quiet):
    run = Run(shutil.copytree(photos_run.path, tmp_path / "run"))
    for path in (run.results_file, run.report_file, run.predictions_file, run.weights_file, run.model_file):
        path.unlink()
    same(train(resume=run.path, console=quiet), photos_run)
    assert run.report_file.is_file()
    assert run.metrics_file.read_bytes() == photos_run.metrics_file.read_bytes()


def test_run_without_checkpoint_starts_over(photos_run, tmp_path, console):
    run = Run(shutil.copytree(photos_run.path, tmp_path / "run"))
    for path in run.path.iterdir():
        if path.name not in ("config.yaml", "environment.json", "split.csv", "tensorboard"):
            path.unlink()
    same(train(resume=run.path, console=console), photos_run)
    assert "no checkpoint found: training starts from the beginning" in console.file.getvalue()


@pytest.mark.parametrize("select", ["best", pytest.param("last", marks=pytest.mark.long)])
def test_moved_run_resumes(tmp_path, quiet, monkeypatch, ask, select):
    options = {**RANDOM, "select": select, "epochs": 5}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", 15)
    whole = train("photos", out="whole", console=quiet, **options)
    ask(epoch=3)
    with pytest.raises(Interrupted):
        train("photos", out="run", console=quiet, **options)
    ask()
    (tmp_path / "run").rename(tmp_path / "elsewhere" / "moved")
    monkeypatch.chdir(tmp_path / "elsewhere")
    same(train(resume="moved", console=quiet), Run(tmp_path / whole.path))
    assert not (tmp_path / "run").exists()


def test_initial_weights_are_not_needed_to_resume(photos, photos_run, tmp_path, quiet, ask):
    shutil.copy(photos_run.weights_file, tmp_path / "start.safetensors")
    ask(step=2)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", checkpoint=tmp_path / "start.safetensors", console=quiet, **QUICK)
    ask()
    (tmp_path / "start.safetensors").unlink()
    assert train(resume=tmp_path / "run", console=quiet).report_file.is_file()


def test_resume_refuses_other_options_and_folders(photos, photos_run, tmp_path, quiet):
    with pytest.raises(UserError, match=r"accepts no others"):
        train(resume=photos_run.path, lr=1e-3, console=quiet)
    with pytest.raises(UserError, match=r"is not a run folder: config.yaml is missing"):
        train(resume=tmp_path, console=quiet)


def test_resume_with_more_epochs_trains_longer(photos, tmp_path, quiet):
    run = train(photos, out=tmp_path / "run", console=quiet, **{**QUICK, "epochs": 1})
    train(resume=run.path, epochs=3, console=quiet)
    assert [row["epoch"] for row in run.read_metrics()] == [1, 2, 3]
    assert run.read_config().epochs == 3
    rates = [row["lr"] for row in run.read_metrics()]
    assert rates[2] < rates[1]  # the schedule of 3 epochs: the learning rate falls until the last
    with pytest.raises(UserError, match=r"3 trained epochs, got --epochs 2"):
        train(resume=run.path, epochs=2, console=quiet)


def test_frozen_run_resumes_bitwise(photos, tmp_path, quiet, ask):
    options = {**RANDOM, "freeze": "stages=2", "freeze_epochs": 2}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    for step in (2, 9):  # frozen, and after the part is unfrozen
        ask(step=step)
        with pytest.raises(Interrupted):
            train(photos, out=tmp_path / f"run{step}", console=quiet, **options)
        ask()
        same(whole, train(resume=tmp_path / f"run{step}", console=quiet))


@pytest.mark.long
def test_balanced_run_resumes_bitwise(photos, tmp_path, quiet, ask, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = tmp_path / "weights.json"
    weights.write_text('{"blue": 1, "green": 2, "red": 0.5}')
    options = {**RANDOM, "class_weights": weights.name, "sampler": "sqrt", "loss": "focal"}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    ask(step=6)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    ask()
    weights.write_text('{"blue": 1, "green": 1, "red": 1}')  # the weights of the run are in its checkpoint
    monkeypatch.chdir("/")
    same(whole, train(resume=tmp_path / "run", console=quiet))


@pytest.mark.long
def test_patience_is_counted_across_an_interruption(photos, tmp_path, quiet, ask):
    options = {
        **QUICK,
        "model": "test_vit",
        "epochs": 9,
        "lr": 0,
        "min_lr": 0,
        "warmup_lr": 0,
        "patience": 3,
    }  # never better than epoch 1
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    assert [row["epoch"] for row in whole.read_metrics()] == [1, 2, 3, 4]
    ask(epoch=1)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    ask()
    same(whole, train(resume=tmp_path / "run", console=quiet))
    assert [row["epoch"] for row in Run(tmp_path / "run").read_metrics()] == [1, 2, 3, 4]


@pytest.mark.long
@pytest.mark.parametrize("which", ["last", "best"])
def test_averaged_run_resumes_bitwise(photos, tmp_path, quiet, ask, which):
    options = {**RANDOM, "average": f"{which}=2"}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    for where in ({"step": 6}, {"epoch": 1}):
        ask(**where)
        with pytest.raises(Interrupted):
            train(photos, out=tmp_path / "run", console=quiet, overwrite=True, **options)
        ask()
        shutil.rmtree(tmp_path / "moved", ignore_errors=True)
        (tmp_path / "run").rename(tmp_path / "moved")
        run = train(resume=tmp_path / "moved", console=quiet)
        same(run, whole)
        assert sorted(path.name for path in run.averaged_folder.iterdir()) == sorted(
            path.name for path in whole.averaged_folder.iterdir()
        )


def test_missing_images_are_named(tmp_path, quiet):
    data = write_photos(tmp_path / "photos", 8)
    run = train(data, out=tmp_path / "run", console=quiet, **{**QUICK, "epochs": 1})
    (data / "red" / "003.png").unlink()
    with pytest.raises(UserError, match=r"images of the stored split .* are missing: 1, the first is red/003.png"):
        train(resume=run.path, console=quiet)


@pytest.mark.parametrize(
    "where",
    [{"step": 1}, *(pytest.param(where, marks=pytest.mark.long) for where in ({"step": 4}, {"epoch": 1}))],
    ids=str,
)
def test_resumed_dense_run_equals_the_uninterrupted_one(dense_whole, tmp_path, quiet, ask, where):
    config = dense_whole.read_config().to_dict()
    options = {name: value for name, value in config.items() if name != "out"}
    ask(**where)
    with pytest.raises(Interrupted, match=r"saved in .*last.ckpt. Resume with: transxnet train --resume"):
        train(out=tmp_path / "run", console=quiet, **options)
    ask()
    run = Run(tmp_path / "run")
    assert not run.results_file.exists()
    steps = 3 * (where["epoch"] + 1) if "epoch" in where else where["step"] + 1
    saved = torch.load(run.last_checkpoint, weights_only=True)["global_step"]
    assert saved == (steps if options["accumulate"] == 1 else [0, 1, 1, 2, 3, 3, 4][steps])
    train(resume=run.path, console=quiet)
    same(run, dense_whole)


@pytest.mark.long
def test_dense_training_does_not_depend_on_the_workers(maps, tmp_path, quiet):
    options = {**DENSE_KINDS["segment"], "epochs": 1, "accumulate": 1}
    one = train(maps, out=tmp_path / "one", console=quiet, **options)
    same(one, train(maps, out=tmp_path / "other", console=quiet, **{**options, "workers": 2}))


def test_random_split_is_kept_on_resume(tmp_path, quiet, ask):
    data = write_coco_squares(tmp_path / "data", 8)
    options = {**DETECT, "min_size": 32, "val_fraction": 0.3}
    whole = train(data, out=tmp_path / "whole", console=quiet, **options)
    ask(step=1)
    with pytest.raises(Interrupted):
        train(data, out=tmp_path / "run", console=quiet, **options)
    ask()
    (data / "101.png").write_bytes((data / "1.png").read_bytes())  # not part of the data: it has no annotation
    same(train(resume=tmp_path / "run", console=quiet), whole)
    assert (tmp_path / "run" / "split.csv").read_bytes() == whole.split_file.read_bytes()
    (data / "0.png").unlink()
    with pytest.raises(UserError, match=r"0.png"):
        train(resume=whole.path, console=quiet)


@pytest.fixture
def half_precision(monkeypatch):
    """Train with a gradient scaler that starts high enough to be lowered, and grows again soon."""
    trainer = training.Trainer

    def make(*, plugins, precision, **options):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**19, growth_interval=2)
        return trainer(plugins=[*plugins, MixedPrecision("16-mixed", "cpu", scaler)], **options)

    monkeypatch.setattr(training, "Trainer", make)


@pytest.mark.long
def test_resume_restores_the_gradient_scaler(half_precision, photos, tmp_path, quiet, ask):
    options = {**QUICK, "select": "last"}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    ask(step=5)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    ask()
    run = train(resume=tmp_path / "run", console=quiet)
    mine, theirs = (torch.load(r.last_checkpoint, weights_only=True) for r in (run, whole))
    assert mine["MixedPrecision"] == theirs["MixedPrecision"]
    assert theirs["MixedPrecision"]["scale"] < 2.0**19
    assert all(torch.equal(mine["state_dict"][name], tensor) for name, tensor in theirs["state_dict"].items())


def test_resume_of_a_finished_run_says_how_to_train_longer(photos_run, tmp_path, console):
    run = shutil.copytree(photos_run.path, tmp_path / "run")
    train(resume=run, console=console)
    assert "training is finished: only the results are computed again. To train longer, add --epochs" in (
        console.file.getvalue()
    )


def test_resume_without_its_data_names_the_configuration(photos_run, tmp_path, quiet):
    run = Run(shutil.copytree(photos_run.path, tmp_path / "run"))
    run.write_config(run.read_config().replace(data=str(tmp_path / "moved")))
    with pytest.raises(
        UserError, match=r"moved, the data of the run .*, no longer exists\. .*set data in .*config\.yaml"
    ):
        train(resume=run.path, console=quiet)
