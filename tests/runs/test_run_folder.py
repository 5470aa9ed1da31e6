"""A run folder belongs to one training, and what interrupted ones leave stands in nobody's way."""

import errno
import os
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from tests.helpers.class_folders import QUICK
from transxnet.runs.run_folder import Run
from transxnet.training.checkpoint_files import find_checkpoint, read_whole
from transxnet.training.train import train
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError
from transxnet.utils.locks import LOCK_FILE, FolderInUse, lock_folder


@pytest.fixture
def run(photos_run, tmp_path) -> Run:
    """A copy of a finished run."""
    return Run(shutil.copytree(photos_run.path, tmp_path / "run"))


def content(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file() and path.name != LOCK_FILE}


def test_a_folder_that_another_training_holds_is_neither_gone_on_with_nor_written_over(run, photos, quiet):
    before = content(run)
    with lock_folder(run.path):
        with pytest.raises(
            FolderInUse, match=r"is in use by process \d+ on .*, since .*\. Two trainings in one folder"
        ):
            train(resume=run.path, console=quiet)
        with pytest.raises(FolderInUse):
            train(photos, out=run.path, overwrite=True, console=quiet, **QUICK)
        assert content(run) == before


def test_a_new_run_is_not_put_where_another_is_about_to_begin(photos, tmp_path, quiet):
    (tmp_path / "run").mkdir()
    with lock_folder(tmp_path / "run"), pytest.raises(FolderInUse):
        train(photos, out=tmp_path / "run", console=quiet, **QUICK)


def test_a_folder_is_held_while_it_is_trained_in_and_free_after(photos, tmp_path, quiet, monkeypatch):
    held = []

    def write_results(run, *_):
        with pytest.raises(FolderInUse):
            train(resume=run.path, console=quiet)
        held.append(run.path)

    monkeypatch.setattr("transxnet.training.train.write_results", write_results)
    train(photos, out=tmp_path / "run", console=quiet, **{**QUICK, "epochs": 1})
    assert held == [tmp_path / "run"]
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_what_a_killed_write_left_is_removed(run, quiet):
    left = [run.path / f".{name}.{'0f' * 16}" for name in ("last.ckpt", "metrics.csv", "model.safetensors")]
    for path in left:
        path.write_bytes(b"half")
    train(resume=run.path, console=quiet)
    assert not any(path.exists() for path in left)


def test_a_disk_that_lets_nothing_be_removed_is_said_with_the_way_on(run, quiet, monkeypatch):
    def remove_partial_files(folder, names):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder / ".last.ckpt.0f"))

    monkeypatch.setattr("transxnet.runs.run_folder.remove_partial_files", remove_partial_files)
    with pytest.raises(WriteError, match=r"Read-only file system\. Make the folder writable.*Then go on with: transx"):
        train(resume=run.path, console=quiet)


def test_a_folder_whose_making_was_killed_is_free(tmp_path):
    for name in (LOCK_FILE, "environment.json", "split.csv", f".config.yaml.{'0f' * 16}"):
        (tmp_path / name).write_text("x")
    with Run.create(tmp_path, overwrite=False):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_what_overwriting_leaves_that_is_killed_is_free_to_be_overwritten(run, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    plain, removed = Path.unlink, 0

    def unlink(path, missing_ok=False):
        nonlocal removed
        if removed == of:
            raise Killed
        removed += 1
        plain(path, missing_ok)

    names = sorted(path.name for path in run.path.iterdir())
    for of in range(len([path for path in run.path.iterdir() if path.is_file()])):
        copy, removed = Run(Path(shutil.copytree(run.path, tmp_path / str(of)))), 0
        with monkeypatch.context() as killing:
            killing.setattr(Path, "unlink", unlink)
            with pytest.raises(Killed):
                copy.clear()
        (copy.path / LOCK_FILE).write_text("x")
        with Run.create(copy.path, overwrite=True):
            assert [path.name for path in copy.path.iterdir()] == [LOCK_FILE]
    assert sorted(path.name for path in run.path.iterdir()) == names


def test_files_that_only_look_like_it_are_left_alone(tmp_path):
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(UserError, match=r"exists already"), Run.create(tmp_path, overwrite=False):
        pass
    assert (tmp_path / "environment.json").read_text() == "{}"


def test_a_run_that_can_t_be_begun_leaves_its_folder_free(photos, tmp_path, quiet, monkeypatch):
    def write_config(self, config):
        raise UserError("full")

    with monkeypatch.context() as full:
        full.setattr(Run, "write_config", write_config)
        with pytest.raises(UserError, match=r"full"):
            train(photos, out=tmp_path / "run", console=quiet, **QUICK)
    assert list((tmp_path / "run").iterdir()) == []


def test_a_bit_that_turned_in_a_weight_is_seen_though_pytorch_does_not(run, quiet):
    whole = bytearray(run.last_checkpoint.read_bytes())
    whole[len(whole) // 2] ^= 1
    run.last_checkpoint.write_bytes(whole)
    torch.load(run.last_checkpoint, weights_only=True)
    with pytest.raises(UserError, match=r"last\.ckpt can't be gone on with.*the bytes of \S+ in it"):
        find_checkpoint(run, quiet)
    shutil.copy(run.best_checkpoint, run.previous_checkpoint)
    assert find_checkpoint(run, quiet) == run.previous_checkpoint
    assert read_whole(run.previous_checkpoint)["state_dict"]


@pytest.mark.parametrize("inside", [True, False])
def test_only_the_run_s_own_files_are_called_unwritable(run, tmp_path, quiet, monkeypatch, inside):
    path = run.path / "tensorboard" / "events" if inside else tmp_path / "photos" / "7.png"

    def write_results(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), os.fsencode(path))

    monkeypatch.setattr("transxnet.training.train.write_results", write_results)
    with pytest.raises(UserError) as caught:
        train(resume=run.path, console=quiet)
    said = f"{'cannot write ' * inside}{path}: Input/output error. The disk or its connection fails: look after it. The"
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(f"Then go on with: {run.resume_command}")


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_a_checkpoint_that_the_disk_does_not_give_is_done_without(run, console, monkeypatch, name):
    shutil.copy(run.last_checkpoint, run.previous_checkpoint)
    run.write_config(run.read_config().replace(select="last"))
    plain = zipfile.ZipFile.testzip

    def testzip(archive):
        if archive.filename.endswith(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(archive)

    monkeypatch.setattr(zipfile.ZipFile, "testzip", testzip)
    train(resume=run.path, console=console)
    said = "Going on from the checkpoint before" if name == "last.ckpt" else "The best of the epochs that are still to"
    assert f"{name} can't be read: Input/output error. {said}" in console.file.getvalue()


def test_best_weights_that_are_spoilt_are_not_used(run, console):
    run.best_checkpoint.write_bytes(run.best_checkpoint.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"the best epoch's weights are lost: .*best\.ckpt .*set select to last in"):
        train(resume=run.path, console=console)
    assert "The best of the epochs that are still to come will be kept instead." in console.file.getvalue()
    run.write_config(run.read_config().replace(select="last"))
    train(resume=run.path, console=console)


def test_a_finished_run_keeps_no_checkpoint_before_the_last(photos_run):
    assert not photos_run.previous_checkpoint.exists()
