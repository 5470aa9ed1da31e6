"""The C kernel of strided depthwise convolutions against PyTorch's convolution in float64."""

import pytest
import torch

from transxnet.layers import OSRA
from transxnet.ops.depthwise_cpu import depthwise_c
from transxnet.ops.kernels.c_library import why_unavailable
from transxnet.ops.strided_conv import strided_depthwise_conv2d, strided_depthwise_conv2d_reference

pytestmark = pytest.mark.skipif(bool(why_unavailable()), reason="needs a C compiler")

BOUNDS = {torch.float32: 2e-6, torch.bfloat16: 4e-3}
CASES = {
    "stage 1": (2, 24, 28, 27, 11, 8),
    "stage 2": (3, 20, 14, 15, 7, 4),
    "stage 3": (2, 33, 7, 8, 5, 2),
    "map smaller than the stride": (2, 3, 2, 3, 7, 4),
    "one channel": (2, 1, 9, 9, 5, 2),
    "stride 1": (2, 17, 5, 6, 3, 1),
}


def values_and_gradients(function, x, weight, stride, g):
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    out = function(x, weight, stride)
    return [out, *torch.autograd.grad(out, (x, weight), g.to(out.dtype))]


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "half of the channels"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_match_reference(case, layout, dtype, monkeypatch):
    monkeypatch.setenv("TRANSXNET_OPS", "c")
    B, C, H, W, K, stride = case
    x, weight = torch.randn(B, 2 * C, H, W, dtype=dtype), torch.randn(C, 1, K, K)
    x = x if layout == "contiguous" else x.contiguous(memory_format=torch.channels_last)
    x = x[:, C:] if layout == "half of the channels" else x[:, :C].clone(memory_format=torch.preserve_format)
    g = torch.randn(B, C, -(-H // stride), -(-W // stride))
    ours = values_and_gradients(strided_depthwise_conv2d, x, weight, stride, g)
    truth = values_and_gradients(
        strided_depthwise_conv2d_reference, x.double(), weight.double(), stride, g.to(dtype).double()
    )
    assert ours[0].dtype == dtype
    for name, value, true in zip(("out", "x", "weight"), ours, truth, strict=True):
        bound = BOUNDS[torch.float32 if name == "weight" else dtype]
        torch.testing.assert_close(value.double(), true, rtol=0, atol=bound * true.abs().max().item(), msg=name)


def test_second_derivatives_match_reference():
    x, weight, g = torch.randn(2, 3, 7, 6), torch.randn(3, 1, 5, 5), torch.randn(2, 3, 4, 3)

    def second(function, *tensors):
        x, weight, g = (t.detach().requires_grad_() for t in tensors)
        first = torch.autograd.grad(function(x, weight, 2), (x, weight), g, create_graph=True)
        return torch.autograd.grad(sum(value.pow(2).sum() for value in first), (x, weight, g))

    ours = second(strided_depthwise_conv2d, x, weight, g)
    truth = second(strided_depthwise_conv2d_reference, x.double(), weight.double(), g.double())
    for value, true in zip(ours, truth, strict=True):
        torch.testing.assert_close(value.double(), true, rtol=0, atol=1e-5 * true.abs().max().item())


def test_even_kernels_take_the_reference():
    x, weight = torch.randn(2, 3, 9, 9), torch.randn(3, 1, 6, 6)
    assert torch.equal(strided_depthwise_conv2d(x, weight, 3), strided_depthwise_conv2d_reference(x, weight, 3))


def test_reduction_of_keys_takes_the_kernel_with_gradients(monkeypatch):
    called = []

    def note(x, weights, biases, stride):
        called.append(stride)
        return depthwise_c(x, weights, biases, stride=stride)

    monkeypatch.setattr("transxnet.ops.strided_conv.depthwise_c", note)
    layer, x = OSRA(8, sr_ratio=2), torch.randn(2, 8, 6, 6)
    layer(x).sum().backward()
    with torch.no_grad():
        layer(x)
    assert called == [2]
