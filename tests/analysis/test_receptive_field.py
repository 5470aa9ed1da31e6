"""Effective receptive fields against closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from transxnet.analysis.receptive_field import ReceptiveField, receptive_field


def field(density: np.ndarray) -> ReceptiveField:
    return ReceptiveField("net", "stage 4", False, density / density.sum(), 1)


def averaging(layers: int, in_chans: int = 3) -> nn.Sequential:
    """3x3 convolutions with equal weights; the first has three input channels."""
    convs = []
    for i in range(layers):
        convs.append(nn.Conv2d(in_chans if i == 0 else 1, 1, 3, padding=1, bias=False))
        nn.init.constant_(convs[-1].double().weight, 1 / 9)
    return nn.Sequential(*convs)


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_field_of_box_convolutions_matches_closed_form(layers):
    row = np.array([1.0])
    for _ in range(layers):
        row = np.convolve(row, [1 / 3] * 3)
    expected = np.zeros((15, 15))
    reach = slice(7 - layers, 8 + layers)
    expected[reach, reach] = np.outer(row, row)
    gradient = receptive_field(averaging(layers), torch.rand(2, 3, 15, 15).double(), str(layers - 1))
    np.testing.assert_allclose(gradient, np.stack([3 * expected] * 2), rtol=0, atol=1e-12)
    found = field(gradient.sum(axis=0))
    assert found.center == (7, 7)
    rows, columns = np.indices(expected.shape)
    distance = np.hypot(rows - 7, columns - 7)
    for share in (0.2, 0.5, 0.99):
        within = [radius for radius in np.unique(distance) if expected[distance <= radius].sum() >= share - 1e-12]
        assert found.radius(share) == within[0]
        assert found.area(share) == (distance <= within[0]).mean()


def test_radius_and_area_of_a_point_and_a_uniform_field():
    point = np.zeros((9, 9))
    point[2, 6] = 1
    assert field(point).center == (2, 6)
    assert (field(point).radius(0.99), field(point).area(0.99)) == (0, 1 / 81)
    even = field(np.ones((9, 9)))
    assert even.center == (4, 4)
    assert even.radius(1.0) == pytest.approx(np.hypot(4, 4))
    assert even.area(1.0) == 1
    assert even.area(0.5) == pytest.approx(0.5, abs=0.1)


def test_center_follows_the_shift_of_strided_convolutions():
    """In a 3x3 convolution with stride 2 and padding 1, output i is centered at input pixel 2 i."""
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, stride=2, padding=1, bias=False) for _ in range(3)]).double()
    for conv in net:
        nn.init.constant_(conv.weight, 1.0)
    gradient = receptive_field(net, torch.rand(1, 1, 56, 56).double(), "2")
    assert field(gradient[0]).center == (24, 24)


def test_channels_do_not_cancel_after_a_norm():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(1, 8)).double()
    one_pixel = torch.rand(1, 3, 1, 1).double()
    assert net(one_pixel).sum().abs() < 1e-9
    assert receptive_field(net, one_pixel, "1").sum() > 1e-3


def test_receptive_field_leaves_network_and_images_unchanged(tiny, images):
    network = tiny()
    receptive_field(network, images, "idconv")
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not images.requires_grad
    assert not any(module._forward_hooks for module in network.modules())
