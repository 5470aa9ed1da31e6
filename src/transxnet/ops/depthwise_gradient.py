"""A faster backward pass of depthwise convolutions on CPUs, with the same results up to rounding.

For kernels of 5x5 and larger oneDNN has no fast weight gradient: it takes 3 to 20 times as long as the forward pass.
But it is itself a depthwise convolution, of the input with the output's gradient as its kernel, and those are fast at
any size. The input gradient is the forward pass with the kernels rotated by 180 degrees.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.backend import is_transforming

MIN_KERNEL_SIZE = 5
# Input values per convolution of a weight gradient, so that they and oneDNN's copies stay in cache.
CHUNK = 1 << 18


def depthwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise convolution, stride 1, same size, with the backward pass of this module.

    Args:
        x: (B, C, H, W); neither B nor C may be 0.
        weight: (G, C, K, K), G = 1 for kernels shared by the batch, G = B for input-dependent kernels.
        bias: (G, C) or None.
    """
    # PyTorch needs about 30 microseconds more to call a function that can be transformed.
    function = TransformableDepthwiseConvFunction if is_transforming() else DepthwiseConvFunction
    return function.apply(x, weight, bias)


class DepthwiseConvFunction(torch.autograd.Function):
    """:func:`depthwise_conv` outside of transforms. Its gradients can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        """The convolution: (B, C, H, W)."""
        ctx.save_for_backward(x, weight)
        return convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # type: ignore[override]
        """The gradients of x, weight and bias, None for those not needed."""
        x, weight = ctx.saved_tensors
        per_sample = weight.shape[0] != 1
        dx = convolve(g, weight.flip(2, 3), None) if ctx.needs_input_grad[0] else None
        dw = weight_gradient(x, g, weight.shape[-1], per_sample) if ctx.needs_input_grad[1] else None
        db = None
        if ctx.needs_input_grad[2]:
            db = g.sum((2, 3))
            db = db if per_sample else db.sum(0, keepdim=True)
        return dx, dw, db


class TransformableDepthwiseConvFunction(torch.autograd.Function):
    """:func:`depthwise_conv` for forward mode and the transforms of ``torch.func``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        """The convolution: (B, C, H, W)."""
        return convolve(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Save the input and the kernels for both modes of differentiation."""
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    backward = DepthwiseConvFunction.backward

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, dw: Tensor, db: Tensor | None) -> Tensor:  # type: ignore[override]
        """The output's tangent, from the tangents of x, weight and bias."""
        x, weight = ctx.saved_tensors
        return convolve(dx, weight, db) + convolve(x, dw, None)


def weight_gradient(x: Tensor, g: Tensor, K: int, per_sample: bool) -> Tensor:
    """The gradient of depthwise kernels, (G, C, K, K), G = B if per_sample else 1.

    Args:
        x: the input, (B, C, H, W).
        g: the output's gradient, (B, C, H, W).
        K: kernel size.
        per_sample: whether each sample has separate kernels.
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


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Depthwise convolution of x (B, C, H, W) with weight (G, C, K, K) and bias (G, C) or None."""
    B, C, H, W = x.shape
    K = weight.shape[-1]
    if weight.shape[0] == 1 and B > 1:  # without reshape, which may change the strides of a single channel
        return F.conv2d(x, weight.movedim(0, 1), None if bias is None else bias[0], padding=K // 2, groups=C)
    out = F.conv2d(
        x.reshape(1, B * C, H, W),
        weight.reshape(B * C, 1, K, K),
        None if bias is None else bias.reshape(B * C),
        padding=K // 2,
        groups=B * C,
    )
    return out.reshape(B, C, H, W)
