"""The backward pass of depthwise convolutions on CPUs against the reference's gradients, in float64."""

import pytest
import torch

from tests.helpers.operator_cases import dynamic, multiscale
from transxnet.ops import depthwise_gradient
from transxnet.ops.dynamic_conv import dynamic_depthwise_conv2d_cpu
from transxnet.ops.multiscale_conv import multiscale_depthwise_conv2d_cpu

CPU = {
    "dynamic_depthwise_conv2d": dynamic_depthwise_conv2d_cpu,
    "multiscale_depthwise_conv2d": multiscale_depthwise_conv2d_cpu,
}


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
def test_cpu_gradients_match_reference(case, channels_last, chunk, monkeypatch, assert_matches_reference):
    monkeypatch.setattr(depthwise_gradient, "CHUNK", chunk)
    operator, tensors = case()
    tensors = {name: t.double() for name, t in tensors.items()}
    if channels_last:
        tensors["x"] = tensors["x"].contiguous(memory_format=torch.channels_last)
    assert_matches_reference((operator, tensors), 1e-13, function=CPU[operator])


def test_unneeded_gradients_are_not_computed(monkeypatch):
    monkeypatch.setattr(depthwise_gradient, "weight_gradient", lambda *_: pytest.fail("nobody asked for it"))
    _, tensors = dynamic(2, 3, 4, 4, K=5)
    tensors["x"].requires_grad_()
    dynamic_depthwise_conv2d_cpu(**tensors).sum().backward()
    assert tensors["x"].grad is not None


def test_second_derivative_raises():
    _, tensors = dynamic(1, 2, 4, 4, K=5)
    x = tensors["x"].requires_grad_()
    (grad,) = torch.autograd.grad(dynamic_depthwise_conv2d_cpu(**tensors).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
