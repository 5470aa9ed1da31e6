"""Checks of data with planted problems, shared by the tests."""

import pytest

from tests.helpers.planted_problems import write_bad_boxes, write_planted
from transxnet.checking.check import check


@pytest.fixture(scope="session")
def planted_data(tmp_path_factory):
    return write_planted(tmp_path_factory.mktemp("planted") / "data")


@pytest.fixture(scope="session")
def planted(planted_data, quiet):
    return check(planted_data, out=None, console=quiet)


@pytest.fixture(scope="session")
def bad_boxes(tmp_path_factory, quiet):
    return check(write_bad_boxes(tmp_path_factory.mktemp("boxes") / "data"), out=None, console=quiet)
