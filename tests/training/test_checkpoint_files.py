import errno
import os
import shutil
import zipfile

import pytest
import torch

from transxnet.runs.run_folder import Run
from transxnet.training.checkpoint_files import Checkpoint, CheckpointFiles, find_checkpoint, read_verified
from transxnet.training.train import train
from transxnet.utils.errors import UserError


@pytest.fixture
def run(photos_run, tmp_path) -> Run:
    """A copy of a finished run."""
    return Run(shutil.copytree(photos_run.path, tmp_path / "run"))


def test_flipped_bit_is_detected(run, quiet):
    whole = bytearray(run.last_checkpoint.read_bytes())
    whole[len(whole) // 2] ^= 1
    run.last_checkpoint.write_bytes(whole)
    torch.load(run.last_checkpoint, weights_only=True)
    with pytest.raises(UserError, match=r"cannot resume from .*last\.ckpt.*wrong checksum of \S+"):
        find_checkpoint(run, quiet)
    shutil.copy(run.best_checkpoint, run.previous_checkpoint)
    assert find_checkpoint(run, quiet).path == run.previous_checkpoint
    assert read_verified(run.previous_checkpoint)["state_dict"]


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_unreadable_checkpoint_is_skipped_with_a_warning(run, console, monkeypatch, name):
    shutil.copy(run.last_checkpoint, run.previous_checkpoint)
    run.write_config(run.read_config().replace(select="last"))
    plain = zipfile.ZipFile.testzip

    def testzip(archive):
        if archive.filename.endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(archive)

    monkeypatch.setattr(zipfile.ZipFile, "testzip", testzip)
    train(resume=run.path, console=console)
    message = "Resuming from the previous checkpoint" if name == "last.ckpt" else "The best of the remaining"
    assert f"{name}: Input/output error. {message}" in console.file.getvalue()


def test_damaged_best_checkpoint_is_not_used(run, console):
    run.best_checkpoint.write_bytes(run.best_checkpoint.read_bytes()[:-100])
    with pytest.raises(
        UserError, match=r"cannot load the weights of the best epoch: .*best\.ckpt .*set select to last in"
    ):
        train(resume=run.path, console=console)
    assert "The best of the remaining epochs will be saved instead." in console.file.getvalue()
    run.write_config(run.read_config().replace(select="last"))
    train(resume=run.path, console=console)


def test_finished_run_has_no_previous_checkpoint(photos_run):
    assert not photos_run.previous_checkpoint.exists()


@pytest.mark.parametrize("damage", ["truncated", "foreign", "other classes", "no state"])
def test_damaged_checkpoint_error_names_the_next_step(photos_run, digits_run, tmp_path, quiet, damage):
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
    with pytest.raises(UserError, match=r"cannot resume from .*last\.ckpt.* remove the checkpoint and repeat --resume"):
        train(resume=run.path, console=quiet)
    assert run.results_file.is_file()


def test_resuming_reads_the_last_checkpoint_once(run, quiet, monkeypatch):
    read, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda file, *args, **kwargs: read.append(file) or load(file, *args, **kwargs))
    train(resume=run.path, console=quiet)
    # The best checkpoint is read for the callback's state and for the results.
    assert [file.name for file in read] == ["last.ckpt", "best.ckpt", "best.ckpt"]


def test_saving_keeps_the_checkpoint_before_the_last(tmp_path):
    run = Run(tmp_path)
    files = CheckpointFiles(run)
    for number in range(3):
        files.save_checkpoint({"number": number}, run.last_checkpoint)
    files.save_checkpoint({"number": 9}, run.best_checkpoint)
    assert [read_verified(path)["number"] for path in run.checkpoints] == [2, 1]
    assert read_verified(run.best_checkpoint)["number"] == 9


def test_damaged_last_checkpoint_is_not_kept_as_backup(tmp_path):
    run = Run(tmp_path)
    for number, path in enumerate((run.previous_checkpoint, run.last_checkpoint)):
        torch.save({"number": number}, path)
    files = CheckpointFiles(run, Checkpoint(run.previous_checkpoint, {"number": 0}))
    assert files.load_checkpoint(run.previous_checkpoint) == {"number": 0}
    files.save_checkpoint({"number": 2}, run.last_checkpoint)
    assert [read_verified(path)["number"] for path in run.checkpoints] == [2, 0]
    files.save_checkpoint({"number": 3}, run.last_checkpoint)
    assert [read_verified(path)["number"] for path in run.checkpoints] == [3, 2]
