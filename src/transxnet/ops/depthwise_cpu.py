"""Depthwise convolutions on CPUs by a C kernel, as PyTorch operators for autograd and ``torch.compile``.

The kernel (``kernels/depthwise.c``) computes all channel groups in one pass over memory, in any layout, and its weight
gradient is many times as fast as oneDNN's. :mod:`transxnet.ops.depthwise_gradient` is used where there is no compiler,
and its formulas are the second derivatives.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from transxnet.ops.depthwise_gradient import convolve, weight_gradient
from transxnet.ops.kernels import depthwise_c as kernel


def depthwise_c(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, stride: int = 1, identity: bool = False
) -> Tensor:
    """Depthwise convolutions, each on its own group of channels, plus the input with ``identity``.

    Args:
        x: (B, C, H, W) float32 or bfloat16, any strides; not empty.
        weights: (G, C_i, K_i, K_i) for each group in channel order; G = B for kernels of each sample, else 1.
        biases: (G, C_i) for each group, or none.
        stride: of the convolution; the padding is half of the kernel.
        identity: add x; at stride 1 only.

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)).
    """
    weights, biases = [w.float().contiguous() for w in weights], [b.float().contiguous() for b in biases]
    return _depthwise(x, weights, biases, stride, identity)


@torch.library.custom_op("transxnet::depthwise_c", mutates_args=())
def _depthwise(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], stride: int, identity: bool) -> Tensor:
    return kernel.depthwise(x, weights, biases, stride=stride, identity=identity)


@_depthwise.register_fake
def _(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], stride: int, identity: bool) -> Tensor:
    return kernel.empty_output(x, stride)


@torch.library.custom_op("transxnet::depthwise_c_backward", mutates_args=())
def _depthwise_backward(
    g: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    stride: int,
    identity: bool,
    input_gradient: bool,
    weight_gradients: bool,
) -> list[Tensor]:
    """The gradients of x, the weights and the biases; empty tensors for those that are not needed."""
    dx = kernel.input_gradient(g, x, weights, stride=stride, identity=identity) if input_gradient else g.new_empty(0)
    if not weight_gradients:
        return [dx, *(w.new_empty(0) for w in (*weights, *weights))]
    dws, dbs = kernel.weight_gradient(x, g, weights, stride=stride)
    return [dx, *dws, *dbs]


@_depthwise_backward.register_fake
def _(
    g: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    stride: int,
    identity: bool,
    input_gradient: bool,
    weight_gradients: bool,
) -> list[Tensor]:
    dx = torch.empty_like(g if stride == 1 else x) if input_gradient else g.new_empty(0)
    if not weight_gradients:
        return [dx, *(w.new_empty(0) for w in (*weights, *weights))]
    return [dx, *map(torch.empty_like, weights), *(w.new_empty(w.shape[:2]) for w in weights)]


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weights, biases, ctx.stride, ctx.identity = inputs
    ctx.save_for_backward(x, *weights)
    ctx.has_bias = bool(biases)


def _backward(ctx: Any, g: Tensor) -> tuple:
    x, *weights = ctx.saved_tensors
    x_needed, weights_needed, biases_needed, *_ = ctx.needs_input_grad
    weights_needed = any(weights_needed) or any(biases_needed)
    dx, *rest = _depthwise_backward(g, x, weights, ctx.stride, ctx.identity, x_needed, weights_needed)
    dws, dbs = rest[: len(weights)], rest[len(weights) :]
    none = [None] * len(weights)
    return (
        dx if x_needed else None,
        dws if weights_needed else none,
        (dbs if weights_needed else none) if ctx.has_bias else [],
        None,
        None,
    )


_depthwise.register_autograd(_backward, setup_context=_setup_context)


def _setup_second(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    g, x, weights, ctx.stride, ctx.identity, ctx.input_gradient, ctx.weight_gradients = inputs
    ctx.save_for_backward(g, x, *weights)


def _second_backward(ctx: Any, grads: list[Tensor | None]) -> tuple:
    """The second derivatives, from the definition of the first in PyTorch's operators."""
    with torch.enable_grad():
        g, x, *weights = (t.view_as(t) for t in ctx.saved_tensors)  # g itself may have been computed from x
        outputs = _gradients(g, x, weights, ctx.stride, ctx.identity, ctx.input_gradient, ctx.weight_gradients)
        pairs = [(out, grad) for out, grad in zip(outputs, grads, strict=True) if out is not None and grad is not None]
        pairs = [(out, grad) for out, grad in pairs if out.requires_grad]
        inputs = [t for t in (g, x, *weights) if t.requires_grad]
        found = iter(
            torch.autograd.grad(
                [out for out, _ in pairs], inputs, [grad for _, grad in pairs], create_graph=True, allow_unused=True
            )
            if pairs
            else [None] * len(inputs)
        )
    dg, dx, *dws = [next(found) if t.requires_grad else None for t in (g, x, *weights)]
    return dg, dx, dws, None, None, None, None


def _gradients(
    g: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    stride: int,
    identity: bool,
    input_gradient: bool,
    weight_gradients: bool,
) -> list[Tensor | None]:
    """What :func:`_depthwise_backward` computes, differentiable; None instead of empty tensors."""
    widths = [w.shape[1] for w in weights]
    dxs, dws, dbs = [], [], []
    for g_part, x_part, w in zip(g.split(widths, 1), x.split(widths, 1), weights, strict=True):
        per_sample, K = w.shape[0] != 1, w.shape[-1]
        if input_gradient and stride == 1:
            dxs.append(convolve(g_part, w.flip(2, 3).to(g.dtype), None))
        elif input_gradient:
            like, kernels = x_part.shape, w.to(g.dtype).movedim(0, 1)
            dxs.append(conv2d_input(like, kernels, g_part, stride, padding=K // 2, groups=like[1]))
        if weight_gradients and stride == 1:
            dws.append(weight_gradient(x_part, g_part, K, per_sample).float())
        elif weight_gradients:
            like = w.movedim(0, 1).shape
            dw = conv2d_weight(x_part, like, g_part, stride, padding=K // 2, groups=like[0])
            dws.append(dw.float().movedim(1, 0))
        if weight_gradients:
            db = g_part.float().sum((2, 3))
            dbs.append(db if per_sample else db.sum(0, keepdim=True))
    nothing: list[Tensor | None] = [None] * len(weights)
    dx = torch.cat(dxs, 1) if input_gradient else None
    if dx is not None and identity:
        dx = dx + g
    return [dx, *(dws or nothing), *(dbs or nothing)]


_depthwise_backward.register_autograd(_second_backward, setup_context=_setup_second)
