"""The contract of all operators: gradients, empty batches, memory layouts, unchanged inputs, no Triton on CPUs."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from transxnet.ops import biased_attention, dynamic_depthwise_conv2d, multiscale_depthwise_conv2d

OPS = pytest.mark.parametrize("op", [dynamic_depthwise_conv2d, multiscale_depthwise_conv2d, biased_attention])


def rand(*shape: int, grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def arguments(op, batch: int = 2, grad: bool = True) -> tuple:
    """Call arguments of a function, with its differentiable tensors in one flat list."""
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


@OPS
def test_gradients_match_finite_differences(op):
    assert gradcheck(lambda *tensors: call(op, *tensors), arguments(op), atol=1e-6, rtol=0)


@OPS
def test_empty_batch_gives_differentiable_empty_output(op):
    tensors = arguments(op, batch=0)
    out = call(op, *tensors)
    out.sum().backward()
    assert out.shape == tensors[0].shape == tensors[0].grad.shape


@OPS
def test_memory_layout_does_not_change_output(op):
    tensors = arguments(op, grad=False)
    scattered = [t.transpose(0, -1).contiguous().transpose(0, -1) for t in tensors]
    strided = [torch.stack([t, t], dim=-1)[..., 0] for t in tensors]
    for layout in (scattered, strided):
        torch.testing.assert_close(call(op, *layout), call(op, *tensors), rtol=0, atol=1e-12)
    if op is not biased_attention:
        channels_last = tensors[0].contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(call(op, channels_last, *tensors[1:]), call(op, *tensors), rtol=0, atol=1e-12)


@OPS
def test_inputs_are_not_modified(op):
    tensors = arguments(op, grad=False)
    before = [t.clone() for t in tensors]
    call(op, *tensors)
    assert all(torch.equal(t, kept) for t, kept in zip(tensors, before, strict=True))


@pytest.mark.long
def test_import_and_cpu_calls_load_no_triton_kernels():
    program = """
import sys, torch
from transxnet import ops
x, w = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 5, 5)
ops.dynamic_depthwise_conv2d(x, w), ops.multiscale_depthwise_conv2d(x, [w], [w[0, 0, 0, :1]])
ops.biased_attention(x, x, x)
print([name for name in sys.modules if name.startswith("transxnet.ops.kernels.") and name.endswith("_kernels")])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("TRANSXNET_OPS", None)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
