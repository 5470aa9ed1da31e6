import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.class_folders import QUICK, write_photos
from transxnet.runs.run_folder import Run
from transxnet.training.callbacks import GracefulStop
from transxnet.training.train import train
from transxnet.utils.errors import Interrupted, UserError

RANDOM = dict(
    **QUICK, lr=3e-3, mixup=0.3, cutmix=0.5, drop_path_rate=0.3, drop_rate=0.2, random_erasing=0.3, color_jitter=0.4,
    ema_decay=0.9, select="last",
)  # fmt: skip
RANDOM["epochs"] = 3
KINDS = {"plain": {}, "accumulating": {"accumulate": 2}, "without average": {"ema_decay": 0.0, "select": "best"}}


@pytest.fixture(scope="module", params=list(KINDS))
def whole(request, photos, tmp_path_factory, quiet) -> Run:
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(photos, out=out, console=quiet, **{**RANDOM, **KINDS[request.param]})


@pytest.fixture
def ask(monkeypatch):
    """Ask for a stop, as Ctrl-C does, during a step or between two epochs."""

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
    for mine, theirs in zip(*rows, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-6)  # the mean loss is stored in single precision
    assert one.results_file.read_text() == other.results_file.read_text()
    assert one.predictions_file.read_text() == other.predictions_file.read_text()


@pytest.mark.parametrize(
    "where", [{"step": 0}, {"step": 4}, {"step": 5}, {"step": 7}, {"epoch": 0}, {"epoch": 1}, {"step": 11}], ids=str
)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(whole, photos, tmp_path, quiet, ask, where):
    config = whole.read_config().to_dict()
    options = {name: value for name, value in config.items() if name not in ("data", "out")}
    ask(**where)
    with pytest.raises(Interrupted, match=r"Go on with: transxnet train --resume"):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    run = Run(tmp_path / "run")
    assert not run.results_file.exists()
    saved = torch.load(run.last_checkpoint, weights_only=True)["global_step"]
    steps = 4 * (where["epoch"] + 1) if "epoch" in where else (where["step"] + 1)
    assert saved == -(-steps // options["accumulate"])
    ask()
    train(resume=run.path, console=quiet)
    same(run, whole)


def test_a_run_can_be_interrupted_again_and_again(photos, tmp_path, quiet, ask):
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


def test_who_took_the_signals_before_takes_them_after(photos, tmp_path, quiet, ask):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    train(photos, out=tmp_path / "whole", console=quiet, **QUICK)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    ask(step=1)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **QUICK)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_our_network_goes_on_as_if_nothing_had_been(photos, tmp_path, quiet, ask):
    options = {**RANDOM, "model": "transxnet_n", "epochs": 2, "batch_size": 16}
    whole = train(photos, out=tmp_path / "whole", console=quiet, **options)
    ask(step=2)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", console=quiet, **options)
    ask()
    same(train(resume=tmp_path / "run", console=quiet), whole)


def test_the_order_of_the_images_does_not_depend_on_the_workers(photos, tmp_path, quiet):
    one = train(photos, out=tmp_path / "one", console=quiet, **RANDOM)
    other = train(photos, out=tmp_path / "other", console=quiet, **{**RANDOM, "workers": 2})
    same(one, other)


def test_resuming_a_finished_run_writes_its_results_again(photos_run, tmp_path, quiet):
    run = Run(shutil.copytree(photos_run.path, tmp_path / "run"))
    for path in (run.results_file, run.report_file, run.predictions_file, run.weights_file, run.model_file):
        path.unlink()
    same(train(resume=run.path, console=quiet), photos_run)
    assert run.report_file.is_file()
    assert run.metrics_file.read_bytes() == photos_run.metrics_file.read_bytes()


def test_a_run_without_a_checkpoint_starts_from_the_beginning(photos_run, tmp_path, console):
    run = Run(shutil.copytree(photos_run.path, tmp_path / "run"))
    for path in run.path.iterdir():
        if path.name not in ("config.yaml", "environment.json", "split.csv", "tensorboard"):
            path.unlink()
    same(train(resume=run.path, console=console), photos_run)
    assert "no checkpoint was saved before the interruption: starting from the beginning" in console.file.getvalue()


@pytest.mark.parametrize("select", ["best", "last"])
def test_a_run_that_was_moved_or_is_resumed_from_elsewhere_goes_on(tmp_path, quiet, monkeypatch, ask, select):
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


def test_the_weights_to_start_from_are_not_needed_again(photos, photos_run, tmp_path, quiet, ask):
    shutil.copy(photos_run.weights_file, tmp_path / "start.safetensors")
    ask(step=2)
    with pytest.raises(Interrupted):
        train(photos, out=tmp_path / "run", checkpoint=tmp_path / "start.safetensors", console=quiet, **QUICK)
    ask()
    (tmp_path / "start.safetensors").unlink()
    assert train(resume=tmp_path / "run", console=quiet).report_file.is_file()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other classes", "no state"])
def test_a_damaged_checkpoint_is_said(photos_run, digits_run, tmp_path, quiet, damage):
    run = Run(shutil.copytree(photos_run.path, tmp_path / "run"))
    whole = run.last_checkpoint.read_bytes()
    if damage == "truncated":
        run.last_checkpoint.write_bytes(whole[: len(whole) // 2])
    if damage == "foreign":
        run.last_checkpoint.write_bytes(b"GIF89a" * 100)
    if damage == "other classes":
        shutil.copy(digits_run.last_checkpoint, run.last_checkpoint)
    if damage == "no state":
        content = torch.load(run.last_checkpoint, weights_only=True)
        del content["loops"]
        torch.save(content, run.last_checkpoint)
    with pytest.raises(UserError, match=r"last\.ckpt can't be gone on with.* remove it and give --resume"):
        train(resume=run.path, console=quiet)
    assert run.results_file.is_file()


def test_resuming_takes_no_other_option_and_only_a_run(photos, photos_run, tmp_path, quiet):
    with pytest.raises(UserError, match=r"give no other option beside it"):
        train(resume=photos_run.path, epochs=5, console=quiet)
    with pytest.raises(UserError, match=r"is not a run folder: it has no config.yaml"):
        train(resume=tmp_path, console=quiet)


def test_images_that_are_gone_are_named(tmp_path, quiet):
    data = write_photos(tmp_path / "photos", 8)
    run = train(data, out=tmp_path / "run", console=quiet, **{**QUICK, "epochs": 1})
    (data / "red" / "003.png").unlink()
    with pytest.raises(UserError, match=r"1 images of the stored split .* are gone, red/003.png first"):
        train(resume=run.path, console=quiet)
