"""The position bias: resized to another image size and cached until its weight changes."""

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from tests.helpers.formulas import close
from transxnet.layers import (
    PositionBias,
    position_bias,
)


def test_position_bias_is_the_stored_matrix_at_its_own_size():
    bias = PositionBias(2, 6, 4)
    assert bias(6, 4) is bias.weight
    assert bias.weight.shape == (1, 2, 6, 4)
    assert not bias.weight.any()


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def resize_rows(matrix: Tensor, rows: int) -> Tensor:
    """Bicubic resize along the first dimension, pixel centers at half-integers, border repeated."""
    out = torch.zeros(rows, matrix.shape[1], dtype=matrix.dtype)
    for i in range(rows):
        center = (i + 0.5) * len(matrix) / rows - 0.5
        for j in range(math.floor(center) - 1, math.floor(center) + 3):
            out[i] += cubic(center - j) * matrix[min(max(j, 0), len(matrix) - 1)]
    return out


@pytest.mark.parametrize("size", [(9, 4), (6, 9), (13, 7), (3, 2), (1, 1)])
@pytest.mark.parametrize("grad", [True, False])
def test_position_bias_is_resized_whole_and_bicubic(randomize, size, grad):
    bias = randomize(PositionBias(2, 6, 4)).double()
    with torch.set_grad_enabled(grad):
        resized = bias(*size)
    assert resized.shape == (1, 2, *size)
    assert resized.requires_grad == grad
    for head in range(2):
        close(resized[0, head].detach(), resize_rows(resize_rows(bias.weight[0, head], size[0]).T, size[1]).T.detach())


@pytest.fixture
def resizes(monkeypatch) -> list:
    """Record the target size of every resize."""
    calls = []

    def counted(bias, size, resize=position_bias.resize_position_bias):
        calls.append(size)
        return resize(bias, size)

    monkeypatch.setattr(position_bias, "resize_position_bias", counted)
    return calls


@torch.no_grad()
def test_last_resized_matrix_is_cached_without_gradients(resizes):
    bias = PositionBias(2, 6, 4)
    assert bias(8, 8) is bias(8, 8)
    bias(9, 9), bias(9, 9), bias(8, 8)
    assert resizes == [(8, 8), (9, 9), (8, 8)]


def test_nothing_is_cached_with_gradients(resizes):
    bias = PositionBias(2, 6, 4)
    bias(8, 8), bias(8, 8)
    assert len(resizes) == 2


def add_in_place(bias: PositionBias) -> PositionBias:
    with torch.no_grad():
        bias.weight.add_(1)
    return bias


def add_in_inference_mode(bias: PositionBias) -> PositionBias:
    with torch.inference_mode():
        bias.weight.add_(1)
    return bias


def add_through_data(bias: PositionBias) -> PositionBias:
    bias.train()
    bias.weight.data.add_(1)
    return bias.eval()


def replace_storage(bias: PositionBias) -> PositionBias:
    bias.weight.data = bias.weight.data + 1
    return bias


def load(bias: PositionBias) -> PositionBias:
    bias.load_state_dict({"weight": bias.weight + 1})
    return bias


def assign(bias: PositionBias) -> PositionBias:
    bias.load_state_dict({"weight": (bias.weight + 1).detach()}, assign=True)
    return bias


def optimize(bias: PositionBias, **kind: bool) -> PositionBias:
    with torch.enable_grad():
        bias(6, 4).sum().neg().backward()
    torch.optim.AdamW(bias.parameters(), lr=1, weight_decay=0, eps=0, **kind).step()
    return bias


@pytest.mark.parametrize(
    "change",
    [
        add_in_place,
        add_in_inference_mode,
        add_through_data,
        replace_storage,
        load,
        assign,
        pytest.param(lambda bias: optimize(bias, foreach=True), id="foreach optimizer"),
        pytest.param(lambda bias: optimize(bias, fused=True), id="fused optimizer"),
        pytest.param(lambda bias: add_in_place(copy.deepcopy(bias)), id="change a deep copy"),
    ],
)
def test_changed_weight_is_resized_again(randomize, change):
    bias = randomize(PositionBias(2, 6, 4)).double().eval()
    with torch.no_grad():
        before = bias(8, 8)
        close(change(bias)(8, 8), before + 1)


def test_cached_matrix_follows_the_precision_of_the_weight():
    bias = PositionBias(2, 6, 4)
    with torch.no_grad():
        assert bias(8, 8).dtype == torch.float32
        assert bias.double()(8, 8).dtype == torch.float64
        assert bias.to("meta")(8, 8).is_meta


def test_cached_matrix_is_not_pickled_copied_or_saved():
    bias = PositionBias(1, 6, 4)
    small = len(pickle.dumps(bias))
    with torch.no_grad():
        bias(500, 500)
    assert len(pickle.dumps(bias)) == small
    assert copy.deepcopy(bias)._kept is None
    assert list(bias.state_dict()) == ["weight"]


def test_matrix_cached_in_inference_mode_is_not_used_in_training(randomize):
    bias = randomize(PositionBias(2, 6, 4)).double()
    with torch.inference_mode():
        kept = bias(8, 8)
    resized = bias(8, 8)
    resized.sum().backward()
    assert bias.weight.grad.any()
    close(resized.detach(), kept.clone())


def test_a_position_bias_made_in_inference_mode_works():
    with torch.inference_mode():
        assert PositionBias(2, 6, 4)(8, 8).shape == (1, 2, 8, 8)


class Interrupted(PositionBias):
    """Another thread asks for 9x9 between caching and returning the 8x8 matrix."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "_kept" and value is not None and value[1].shape[2:] == (8, 8):
            self(9, 9)


@torch.no_grad()
def test_concurrent_thread_at_another_size_does_not_interfere():
    bias = Interrupted(1, 6, 4)
    assert bias(8, 8).shape[2:] == (8, 8)
    assert bias._kept[1].shape[2:] == (9, 9), "the interruption took place"
