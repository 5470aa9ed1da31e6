"""Runs to be tampered with."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

sys.path.append(str(Path(__file__).parents[1] / "stored"))

from stored import stored_run

from transxnet.tasks.run import Run


@pytest.fixture(scope="session")
def quiet() -> Console:
    """A console for those who do not listen."""
    return Console(file=io.StringIO())


@pytest.fixture
def run(tmp_path) -> Run:
    """A finished run."""
    return stored_run(1, "finished", tmp_path)


@pytest.fixture
def interrupted(tmp_path) -> Run:
    """A run to go on with."""
    return stored_run(1, "interrupted", tmp_path)
