"""Trained runs that the tests share."""

import io
from pathlib import Path

import pytest
from photographs import QUICK, write_photos
from rich.console import Console

from transxnet.tasks.run import Run
from transxnet.tasks.train import train


@pytest.fixture
def console() -> Console:
    """A console that is no terminal; what it was told stands in ``console.file.getvalue()``."""
    return Console(file=io.StringIO())


@pytest.fixture(scope="session")
def quiet() -> Console:
    """A console for those who do not listen."""
    return Console(file=io.StringIO())


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Three classes of 15 photographs each."""
    return write_photos(tmp_path_factory.mktemp("data") / "photos", 15)


@pytest.fixture(scope="session")
def photos_run(photos, quiet, tmp_path_factory) -> Run:
    """A run on the photographs that was trained to its end."""
    out = tmp_path_factory.mktemp("runs") / "photos"
    return train(photos, out=out, lr=3e-3, console=quiet, **QUICK)


@pytest.fixture(scope="session")
def digits_run(quiet, tmp_path_factory) -> Run:
    """Two epochs on scikit-learn's digits."""
    pytest.importorskip("sklearn")
    out = tmp_path_factory.mktemp("runs") / "digits"
    options = {**QUICK, "batch_size": 32, "img_size": None, "lr": 3e-3}
    return train("digits", out=out, console=quiet, **options)
