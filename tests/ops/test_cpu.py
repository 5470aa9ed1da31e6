"""The CPU's own backward passes against the reference's, in float64."""

import pytest
import torch

from tests.helpers.operator_cases import attention, dynamic, multiscale
from transxnet.ops import cpu


@pytest.mark.parametrize("chunk", [1, 200, 1 << 18], ids=["a sample at a time", "two samples", "all at once"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(
    "case",
    [
        lambda: dynamic(5, 3, 6, 5, K=7),
        lambda: dynamic(1, 2, 1, 1, K=5, bias=False),
        lambda: dynamic(2, 2, 3, 4, K=3),
        lambda: multiscale(5, 6, 5, (2, 1), (1, 3), (3, 5), (2, 7)),
        lambda: multiscale(1, 4, 9, (2, 7)),
    ],
    ids=["dynamic", "one value", "small kernels", "four scales", "one sample"],
)
def test_gradients_are_those_of_the_reference(case, channels_last, chunk, monkeypatch, assert_follows_the_reference):
    monkeypatch.setattr(cpu, "CHUNK", chunk)
    operator, tensors = case()
    tensors = {name: t.double() for name, t in tensors.items()}
    if channels_last:
        tensors["x"] = tensors["x"].contiguous(memory_format=torch.channels_last)
    assert_follows_the_reference((operator, tensors), 1e-13, module=cpu)


def test_attention_of_maps_in_any_layout_is_that_of_the_reference(assert_follows_the_reference):
    operator, tensors = attention(2, 3, 6, 4, 5)
    tensors = {name: t.double() for name, t in tensors.items()}
    assert_follows_the_reference((operator, tensors), 1e-13, module=cpu)
    scattered = {name: t.transpose(2, 3).contiguous().transpose(2, 3) for name, t in tensors.items()}
    assert scattered["q"].stride(-1) != 1
    assert_follows_the_reference((operator, scattered), 1e-13, module=cpu)


def test_gradients_that_nobody_wants_are_not_computed(monkeypatch):
    monkeypatch.setattr(cpu, "weight_gradient", lambda *_: pytest.fail("nobody asked for it"))
    _, tensors = dynamic(2, 3, 4, 4, K=5)
    tensors["x"].requires_grad_()
    cpu.dynamic_depthwise_conv2d(**tensors).sum().backward()
    assert tensors["x"].grad is not None


def test_a_second_derivative_is_refused_and_not_wrong():
    _, tensors = dynamic(1, 2, 4, 4, K=5)
    x = tensors["x"].requires_grad_()
    (grad,) = torch.autograd.grad(cpu.dynamic_depthwise_conv2d(**tensors).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
