"""Fixtures for the tests of the heads."""

from collections.abc import Callable

import pytest
from torch import nn

from tests.helpers.backbones import BODIES, tiny_resnet


@pytest.fixture(params=BODIES)
def any_body(request) -> Callable[..., nn.Module]:
    """Make a small backbone of each kind with the requested stages."""
    return lambda out_indices=(0, 1, 2, 3): BODIES[request.param](out_indices)


@pytest.fixture
def body() -> Callable[..., nn.Module]:
    """Make a small backbone with the requested stages."""
    return lambda out_indices=(0, 1, 2, 3): tiny_resnet(out_indices)
