import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.class_folders import QUICK
from transxnet.runs import run_folder
from transxnet.runs.run_folder import Run, list_runs
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


def test_locked_folder_is_neither_resumed_nor_overwritten(run, photos, quiet):
    before = content(run)
    with lock_folder(run.path):
        with pytest.raises(FolderInUse, match=r"is in use by process \d+ on .*, since .*\. Wait for it to finish"):
            train(resume=run.path, console=quiet)
        with pytest.raises(FolderInUse):
            train(photos, out=run.path, overwrite=True, console=quiet, **QUICK)
        assert content(run) == before


def test_locked_empty_folder_takes_no_new_run(photos, tmp_path, quiet):
    (tmp_path / "run").mkdir()
    with lock_folder(tmp_path / "run"), pytest.raises(FolderInUse):
        train(photos, out=tmp_path / "run", console=quiet, **QUICK)


def test_folder_is_locked_during_training_only(photos, tmp_path, quiet, monkeypatch):
    held = []

    def write_results(run, *_):
        with pytest.raises(FolderInUse):
            train(resume=run.path, console=quiet)
        held.append(run.path)

    monkeypatch.setattr("transxnet.training.train.write_results", write_results)
    train(photos, out=tmp_path / "run", console=quiet, **{**QUICK, "epochs": 1})
    assert held == [tmp_path / "run"]
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_resume_removes_partial_files(run, quiet):
    left = [run.path / f".{name}.{'0f' * 16}" for name in ("last.ckpt", "metrics.csv", "model.safetensors")]
    for path in left:
        path.write_bytes(b"half")
    train(resume=run.path, console=quiet)
    assert not any(path.exists() for path in left)


def test_read_only_folder_error_names_the_next_step(run, quiet, monkeypatch):
    def remove_partial_files(folder, names):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder / ".last.ckpt.0f"))

    monkeypatch.setattr("transxnet.runs.run_folder.remove_partial_files", remove_partial_files)
    with pytest.raises(WriteError, match=r"Read-only file system\. Make the folder writable.*Resume with: transx"):
        train(resume=run.path, console=quiet)


def test_folder_of_a_killed_start_is_free(tmp_path):
    for name in (LOCK_FILE, "environment.json", "split.csv", f".config.yaml.{'0f' * 16}"):
        (tmp_path / name).write_text("x")
    with Run.create(tmp_path, overwrite=False):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK_FILE]


def test_killed_overwrite_can_be_overwritten_again(run, tmp_path, monkeypatch):
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


def test_foreign_files_are_not_modified(tmp_path):
    (tmp_path / "environment.json").write_text("{}")
    with pytest.raises(UserError, match=r"already exists"), Run.create(tmp_path, overwrite=False):
        pass
    assert (tmp_path / "environment.json").read_text() == "{}"


def test_run_that_fails_to_start_leaves_an_empty_folder(photos, tmp_path, quiet, monkeypatch):
    def write_config(self, config):
        raise UserError("full")

    with monkeypatch.context() as full:
        full.setattr(Run, "write_config", write_config)
        with pytest.raises(UserError, match=r"full"):
            train(photos, out=tmp_path / "run", console=quiet, **QUICK)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.parametrize("inside", [True, False])
def test_only_files_of_the_run_are_called_unwritable(run, tmp_path, quiet, monkeypatch, inside):
    path = run.path / "tensorboard" / "events" if inside else tmp_path / "photos" / "7.png"

    def write_results(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), os.fsencode(path))

    monkeypatch.setattr("transxnet.training.train.write_results", write_results)
    with pytest.raises(UserError) as caught:
        train(resume=run.path, console=quiet)
    message = (
        f"{'cannot write ' * inside}{path}: Input/output error. The disk or the connection to it failed: check it. The"
    )
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith(f"Resume with: {run.resume_command}")


def test_run_folders_are_listed_newest_first(tmp_path):
    for age, name in enumerate(("new", "old", "older")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
        os.utime(tmp_path / name / "config.yaml", (1e9 - age, 1e9 - age))
    (tmp_path / "other").mkdir()
    assert list_runs(tmp_path, 2) == [str(tmp_path / "new"), str(tmp_path / "old")]
    assert list_runs(tmp_path / "nowhere") == []


def test_run_has_results_and_history(run):
    assert run.results == json.loads(run.results_file.read_text())
    assert run.results["images"] == 9
    rows = run.read_metrics()
    frame = run.history
    assert list(frame["epoch"]) == [row["epoch"] for row in rows]
    assert frame["train_loss"].tolist() == [row["train_loss"] for row in rows]
    html = run._repr_html_()
    assert "accuracy" in html
    assert str(run.path) in html


def test_history_is_a_list_without_pandas(run, monkeypatch):
    monkeypatch.setattr(run_folder, "find_spec", lambda name: None)
    assert run.history == run.read_metrics()


def test_results_of_an_unfinished_run_name_resume(run):
    run.results_file.unlink()
    run.metrics_file.unlink()
    with pytest.raises(UserError, match=r"is not finished\. Resume it with: transxnet"):
        _ = run.results
    assert len(run.history) == 0
    assert "not finished" in run._repr_html_()
