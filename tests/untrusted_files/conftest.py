"""Stored runs for the tests to tamper with."""

import io

import pytest
from rich.console import Console

from tests.helpers.stored import stored_run
from transxnet.runs.run_folder import Run


@pytest.fixture(scope="session")
def quiet() -> Console:
    """A console whose output is discarded."""
    return Console(file=io.StringIO())


@pytest.fixture
def run(tmp_path) -> Run:
    """A finished run."""
    return stored_run(1, "finished", tmp_path)


@pytest.fixture
def interrupted(tmp_path) -> Run:
    """An interrupted run that can be resumed."""
    return stored_run(1, "interrupted", tmp_path)
