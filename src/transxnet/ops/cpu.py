"""What PyTorch computes faster on a CPU when asked in another way. Same results, up to rounding.

Depthwise convolutions learn with another backward pass. For kernels of 5x5 and more oneDNN has no fast gradient of the
weights: it takes 3 to 20 times as long as the forward pass. But that gradient is a depthwise convolution too, of the
input with the output's gradient as its kernel, and those are fast at any size. The gradient of the input is the forward
pass with the kernels turned by 180 degrees.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from transxnet.ops import reference

SMALLEST_KERNEL = 5
# Input values that one convolution of a weight gradient takes: they, and what oneDNN makes of them, stay in cache.
CHUNK = 1 << 18


def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As in :mod:`transxnet.ops.reference`."""
    if weight.shape[-1] < SMALLEST_KERNEL or x.numel() == 0:
        return reference.dynamic_depthwise_conv2d(x, weight, bias)
    return _Depthwise.apply(x, weight, bias)


def multiscale_depthwise_conv2d(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, identity: bool = True, gelu: bool = False
) -> Tensor:
    """As in :mod:`transxnet.ops.reference`."""
    groups = x.split([w.shape[0] for w in weights], dim=1)
    branches = [
        F.conv2d(group, w, b, padding=w.shape[-1] // 2, groups=w.shape[0])
        if w.shape[-1] < SMALLEST_KERNEL or x.numel() == 0
        else _Depthwise.apply(group, w.movedim(1, 0), b[None])
        for group, w, b in zip(groups, weights, biases, strict=True)
    ]
    out = branches[0] if len(branches) == 1 else torch.cat(branches, dim=1)
    if identity:
        out = x + out
    return F.gelu(out) if gelu else out


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """As in :mod:`transxnet.ops.reference`.

    PyTorch's fused attention wants the channels of a head side by side. Of feature maps that are not channels_last they
    are not, and it would compute all scores of all heads in memory instead.
    """
    q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
    return reference.biased_attention(q, k, v, bias)


def weight_gradient(x: Tensor, g: Tensor, K: int, per_sample: bool) -> Tensor:
    """The gradient of depthwise kernels, (G, C, K, K), G = B if per_sample else 1, from input and output gradient.

    Args:
        x: the input, (B, C, H, W).
        g: the output's gradient, (B, C, H, W).
        K: side of the kernels.
        per_sample: whether each sample has kernels of its own.
    """
    C, H, W = x.shape[1:]
    samples = max(1, CHUNK // (C * H * W))
    parts = []
    for x_part, g_part in zip(x.split(samples), g.split(samples), strict=True):
        groups = x_part.shape[0] * C
        part = F.conv2d(
            x_part.reshape(1, groups, H, W), g_part.reshape(groups, 1, H, W), padding=K // 2, groups=groups
        ).reshape(-1, C, K, K)
        parts.append(part if per_sample else part.sum(0, keepdim=True))
    return torch.cat(parts) if per_sample else torch.stack(parts).sum(0)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Weight (G, C, K, K) and bias (G, C), G = 1 or B."""
    if weight.shape[0] != 1 or x.shape[0] == 1:
        return reference.dynamic_depthwise_conv2d(x, weight, bias)
    bias = None if bias is None else bias[0]
    return F.conv2d(x, weight.movedim(0, 1), bias, padding=weight.shape[-1] // 2, groups=x.shape[1])


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        per_sample = weight.shape[0] != 1
        dx = _convolve(g, weight.flip(2, 3), None) if ctx.needs_input_grad[0] else None
        dw = weight_gradient(x, g, weight.shape[-1], per_sample) if ctx.needs_input_grad[1] else None
        db = None
        if ctx.needs_input_grad[2]:
            db = g.sum((2, 3))
            db = db if per_sample else db.sum(0, keepdim=True)
        return dx, dw, db
