"""Folded convolutions against the layers that they replace, in float64."""

import pytest
import torch
from torch import Tensor, nn

from transxnet.deploy.conv_folding import (
    fold_identity,
    fold_norm,
    halves_apart,
    scale_and_shift,
    scale_input,
    scale_output,
)
from transxnet.layers.conv_norm import ConvNorm


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 6, 5, 7, dtype=torch.float64)


def random_norm(norm: nn.Module) -> nn.Module:
    for tensor in norm.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return norm.double().eval()


def close(actual: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(actual, truth, rtol=0, atol=1e-12)


def per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]


@torch.no_grad()
def test_scale_and_shift_of_norms(x):
    norm = random_norm(nn.BatchNorm2d(6))
    scale, shift = scale_and_shift(norm)
    close(x * per_channel(scale) + per_channel(shift), norm(x))
    group = random_norm(nn.GroupNorm(1, 6))
    scale, shift = scale_and_shift(group)
    close(nn.functional.group_norm(x, 1) * per_channel(scale) + per_channel(shift), group(x))


@torch.no_grad()
@pytest.mark.parametrize("bias", [True, False])
def test_scales_before_and_after_a_convolution(x, bias):
    conv = nn.Conv2d(6, 4, 1, bias=bias).double()
    scale, shift = torch.randn(6).double(), torch.randn(6).double()
    close(scale_input(conv, scale, shift)(x), conv(x * per_channel(scale) + per_channel(shift)))
    close(scale_output(conv, scale[:4], shift[:4])(x), conv(x) * per_channel(scale[:4]) + per_channel(shift[:4]))


@torch.no_grad()
def test_fold_norm_replaces_convolution_and_batchnorm(x):
    layer = ConvNorm(6, 8, 3, stride=2, padding=1).double().eval()
    random_norm(layer.bn)
    close(fold_norm(layer)(x), layer(x))


@torch.no_grad()
def test_fold_identity_replaces_the_residual(x):
    conv = nn.Conv2d(6, 6, 3, padding=1, groups=6).double()
    close(fold_identity(conv)(x), x + conv(x))


@torch.no_grad()
def test_halves_apart_subtracts_the_second_half(x):
    conv = nn.Conv2d(6, 8, 1).double()
    first, second = conv(x).chunk(2, dim=1)
    close(halves_apart(conv)(x), first - second)


def test_the_layer_is_left_unchanged(x):
    conv = nn.Conv2d(6, 6, 3, padding=1, groups=6).double()
    before = conv.weight.clone()
    fold_identity(conv).weight.data.fill_(7)
    assert torch.equal(conv.weight, before)
