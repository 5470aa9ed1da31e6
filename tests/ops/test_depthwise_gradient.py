"""The backward pass of depthwise convolutions on CPUs against the reference's gradients, in float64."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from tests.helpers.formulas import rand
from tests.helpers.operator_cases import call, dynamic, multiscale
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


@pytest.mark.parametrize(
    "case",
    [
        lambda: dynamic(2, 2, 4, 3, K=5),
        lambda: dynamic(1, 2, 3, 4, K=5, bias=False),
        lambda: multiscale(2, 4, 3, (3, 5)),
    ],
    ids=["dynamic", "without bias", "multiscale"],
)
def test_second_derivatives_and_forward_mode_are_exact(case):
    operator, tensors = case()
    names, values = zip(*((name, t.double().requires_grad_()) for name, t in tensors.items()), strict=True)

    def function(*leaves):
        return call(CPU[operator], dict(zip(names, leaves, strict=True)))

    assert gradcheck(function, values, check_forward_ad=True, atol=1e-6, rtol=0)
    assert gradgradcheck(function, values, atol=1e-6, rtol=0)


@pytest.mark.parametrize("B", [1, 3])
def test_vmap_gives_gradients_of_each_sample(B):
    x, weight, bias = rand(2, B, 3, 4, 5), rand(2, B, 3, 5, 5), rand(2, B, 3)

    def loss(*tensors):
        return dynamic_depthwise_conv2d_cpu(*tensors).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))(x, weight, bias)
    for i in range(2):
        alone = torch.func.grad(loss, argnums=(0, 1, 2))(x[i], weight[i], bias[i])
        for got, want in zip(gradients, alone, strict=True):
            torch.testing.assert_close(got[i], want, rtol=0, atol=1e-11)
