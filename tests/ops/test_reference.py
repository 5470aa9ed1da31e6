"""The hot functions against loops that spell their formulas out, in float64."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from transxnet.ops import biased_attention, dynamic_depthwise_conv2d, multiscale_depthwise_conv2d


def rand(*shape: int, grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def correlate(image: Tensor, kernel: Tensor) -> Tensor:
    """One channel and one kernel: ``out[i, j] = sum_uv kernel[u, v] image[i + u - K//2, j + v - K//2]``, 0 outside."""
    (H, W), K = image.shape, kernel.shape[-1]
    out = torch.zeros(H, W, dtype=image.dtype)
    for i in range(H):
        for j in range(W):
            for u in range(K):
                for v in range(K):
                    y, x = i + u - K // 2, j + v - K // 2
                    if 0 <= y < H and 0 <= x < W:
                        out[i, j] += kernel[u, v] * image[y, x]
    return out


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(
    ("B", "C", "H", "W", "K"), [(2, 3, 5, 4, 3), (1, 1, 1, 1, 7), (3, 2, 2, 7, 7), (2, 2, 3, 3, 1)]
)
def test_dynamic_convolution_convolves_each_sample_with_its_own_kernels(B, C, H, W, K, with_bias):
    x, weight, bias = rand(B, C, H, W), rand(B, C, K, K), rand(B, C)
    out = dynamic_depthwise_conv2d(x, weight, bias if with_bias else None)
    for b in range(B):
        for c in range(C):
            truth = correlate(x[b, c], weight[b, c]) + (bias[b, c] if with_bias else 0)
            torch.testing.assert_close(out[b, c], truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_sizes", [(1, 3, 5, 7), (7,), (3, 3)])
@pytest.mark.parametrize(("H", "W"), [(6, 5), (1, 1), (1, 4)])
def test_multiscale_convolution_convolves_each_group_at_its_scale_and_adds_the_input(H, W, kernel_sizes):
    widths = [3, 2, 2, 1][: len(kernel_sizes)]
    weights = [rand(w, 1, k, k) for w, k in zip(widths, kernel_sizes, strict=True)]
    biases = [rand(w) for w in widths]
    x = rand(2, sum(widths), H, W)
    out = multiscale_depthwise_conv2d(x, weights, biases)
    kernels = [kernel[0] for weight in weights for kernel in weight]
    for b in range(2):
        for c, (kernel, bias) in enumerate(zip(kernels, torch.cat(biases), strict=True)):
            torch.testing.assert_close(out[b, c], x[b, c] + correlate(x[b, c], kernel) + bias, rtol=0, atol=1e-12)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("B", "h", "N", "M", "d"), [(2, 3, 5, 4, 2), (1, 1, 1, 1, 1), (2, 2, 7, 1, 3)])
def test_attention_is_a_softmax_over_the_keys_of_scaled_products_plus_bias(B, h, N, M, d, with_bias):
    q, k, v, bias = rand(B, h, N, d), rand(B, h, M, d), rand(B, h, M, d), rand(1, h, N, M)
    out = biased_attention(q, k, v, bias if with_bias else None)
    for b in range(B):
        for head in range(h):
            for n in range(N):
                logits = [
                    sum(q[b, head, n] * k[b, head, m]) / math.sqrt(d) + (bias[0, head, n, m] if with_bias else 0)
                    for m in range(M)
                ]
                shares = torch.stack(logits).exp()
                truth = (shares[:, None] * v[b, head]).sum(0) / shares.sum()
                torch.testing.assert_close(out[b, head, n], truth, rtol=0, atol=1e-12)


def test_attention_takes_a_bias_of_another_precision_than_the_queries():
    q, k, v = (rand(1, 2, 3, 4).float() for _ in range(3))
    bias = rand(1, 2, 3, 3)
    torch.testing.assert_close(biased_attention(q, k, v, bias), biased_attention(q, k, v, bias.float()), rtol=0, atol=0)


def arguments(op, batch: int = 2, grad: bool = True) -> tuple:
    """A call of each function, its differentiable tensors flat."""
    if op is dynamic_depthwise_conv2d:
        return rand(batch, 2, 4, 3, grad=grad), rand(batch, 2, 3, 3, grad=grad), rand(batch, 2, grad=grad)
    if op is multiscale_depthwise_conv2d:
        weights = rand(2, 1, 3, 3, grad=grad), rand(1, 1, 5, 5, grad=grad)
        return rand(batch, 3, 4, 3, grad=grad), *weights, rand(2, grad=grad), rand(1, grad=grad)
    return *(rand(batch, 2, n, 3, grad=grad) for n in (4, 2, 2)), rand(1, 2, 4, 2, grad=grad)


def call(op, *tensors: Tensor) -> Tensor:
    if op is multiscale_depthwise_conv2d:
        x, w1, w2, b1, b2 = tensors
        return op(x, [w1, w2], [b1, b2])
    return op(*tensors)


OPS = pytest.mark.parametrize("op", [dynamic_depthwise_conv2d, multiscale_depthwise_conv2d, biased_attention])


@OPS
def test_gradients_are_those_of_finite_differences(op):
    assert gradcheck(lambda *tensors: call(op, *tensors), arguments(op), atol=1e-6, rtol=0)


@OPS
def test_an_empty_batch_gives_an_empty_result_that_can_be_differentiated(op):
    tensors = arguments(op, batch=0)
    out = call(op, *tensors)
    out.sum().backward()
    assert out.shape == tensors[0].shape == tensors[0].grad.shape


@OPS
def test_the_memory_layout_of_the_input_changes_nothing(op):
    tensors = arguments(op, grad=False)
    scattered = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in tensors]
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in tensors]
    for layout in (scattered, strided):
        torch.testing.assert_close(call(op, *layout), call(op, *tensors), rtol=0, atol=1e-12)
    if op is not biased_attention:
        channels_last = tensors[0].contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(call(op, channels_last, *tensors[1:]), call(op, *tensors), rtol=0, atol=1e-12)


@OPS
def test_the_input_is_left_as_it_was(op):
    tensors = arguments(op, grad=False)
    before = [t.clone() for t in tensors]
    call(op, *tensors)
    assert all(torch.equal(t, kept) for t, kept in zip(tensors, before, strict=True))
