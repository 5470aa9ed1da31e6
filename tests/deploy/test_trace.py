"""Traced programs with fixed and dynamic sizes."""

import pytest
import torch
from torch import Tensor, nn

from transxnet.deploy.trace import example_images, trace
from transxnet.utils.errors import UserError


class Shape(nn.Module):
    """Returns the mean of each image, so any size is possible."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean((1, 2, 3))


class DataDependent(nn.Module):
    """Branches on a value, which cannot be traced."""

    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum() > 0 else -images


@pytest.mark.parametrize("uint8", [False, True])
def test_dynamic_axes_take_other_sizes(uint8):
    axes = ("batch", "height", "width")
    program = trace(Shape(), example_images((64, 64), 1, uint8, axes), axes).module()
    x = torch.randint(0, 256, (3, 96, 32, 3) if uint8 else (3, 3, 96, 32), dtype=torch.uint8 if uint8 else None)
    x = x if uint8 else x.float()
    torch.testing.assert_close(program(x), x.float().mean((1, 2, 3)), rtol=0, atol=1e-3)


def test_fixed_axes_refuse_other_sizes():
    program = trace(Shape(), example_images((64, 32), 2, False), ()).module()
    assert program(torch.zeros(2, 3, 64, 32)).shape == (2,)
    with pytest.raises((AssertionError, RuntimeError)):
        program(torch.zeros(3, 3, 64, 32))


def test_example_images_have_the_size_and_are_larger_if_dynamic():
    assert example_images((64, 96), 3, False).shape == (3, 3, 64, 96)
    assert example_images((64, 96), 3, True).shape == (3, 64, 96, 3)
    batch, _, height, width = example_images((64, 64), 1, False, ("batch", "height", "width")).shape
    assert batch > 1
    assert len({batch, height, width}) == 3
    assert height % 32 == width % 32 == 0


def test_network_that_cannot_be_traced_is_an_error():
    images = example_images((64, 64), 1, False)
    with pytest.raises(UserError, match="PyTorch cannot trace this network"):
        trace(DataDependent(), images, ())
