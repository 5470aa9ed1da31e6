"""A small study of two classes, shared by the tests."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.helpers.study_data import FILES, OPTIONS, read_files, write_cells
from transxnet.experiments import train_runs
from transxnet.studies.study import study
from transxnet.studies.study_results import StudyResult
from transxnet.utils import environment


@contextmanager
def no_commit() -> Iterator[None]:
    """The commit of the checkout, which is part of the results, changes if it is edited while the tests run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "_commit", lambda: None)
        yield


@pytest.fixture(autouse=True)
def _no_commit():
    with no_commit():
        yield


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    """A label table of two classes in groups of two images."""
    return write_cells(tmp_path_factory.mktemp("data") / "cells")


@pytest.fixture(scope="session")
def other_cells(tmp_path_factory):
    """Further images of the same classes."""
    return write_cells(tmp_path_factory.mktemp("data") / "other", seed=1, count=8)


@pytest.fixture(scope="session")
def whole(cells, other_cells, quiet, tmp_path_factory):
    """An uninterrupted study."""
    out = tmp_path_factory.mktemp("study") / "whole"
    with no_commit():
        return study(cells, test=other_cells, out=out, console=quiet, **OPTIONS)


@pytest.fixture
def resume_finished(tmp_path, quiet, monkeypatch) -> Callable[[StudyResult], dict[str, bytes]]:
    """Resume a copy of a finished study without its files, and return these; it must not train."""

    def resume(finished: StudyResult) -> dict[str, bytes]:
        path = shutil.copytree(finished.folder.path, tmp_path / "copy")
        for name in FILES:
            (path / name).unlink()
        monkeypatch.setattr(train_runs, "train", None)
        study(resume=path, console=quiet)
        return read_files(path)

    return resume
