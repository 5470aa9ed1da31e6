"""Batch normalization in training, optionally of GELU(x), by a C kernel on CPUs.

The kernel (``kernels/batch_norm.c``) computes GELU while it reads x, in the forward and the backward pass, so that only
x and the statistics are kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.backend import takes_c_kernel
from transxnet.ops.kernels import batch_norm_c as kernel


def takes_batch_norm_c(x: Tensor) -> bool:
    """Whether the C kernel computes batch statistics of x: on CPUs, with channels last and several values."""
    return (
        type(x) is Tensor
        and x.dim() == 4
        and takes_c_kernel("batch_norm", x)
        and x.numel() > x.shape[1]
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def batch_norm_reference(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The definition in plain PyTorch: the output, the mean and the biased variance of each channel."""
    x = F.gelu(x) if gelu else x
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps), mean, variance


def batch_norm_c(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize x, or GELU(x), by the statistics of each channel.

    Args:
        x: (B, C, H, W) float32 or bfloat16 on a CPU, contiguous with channels last, more than one value per channel.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.
        gelu: normalize GELU(x), in its exact form.

    Returns:
        The output (B, C, H, W), and the mean and the biased variance, (C,) in float32 and without gradients.
    """
    return _batch_norm(x, weight.float().contiguous(), bias.float().contiguous(), eps, gelu)


def normalize_c(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool
) -> Tensor:
    """Compute the output of :func:`batch_norm_c` again, bit by bit, from its statistics; without gradients."""
    weight, bias = weight.float().contiguous(), bias.float().contiguous()
    return kernel.normalize(x, mean, variance, weight, bias, eps=eps, gelu=gelu)


@torch.library.custom_op("transxnet::batch_norm_c", mutates_args=())
def _batch_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool) -> tuple[Tensor, Tensor, Tensor]:
    mean, variance = kernel.statistics(x, gelu=gelu)
    return kernel.normalize(x, mean, variance, weight, bias, eps=eps, gelu=gelu), mean, variance


@_batch_norm.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, eps: float, gelu: bool) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


@torch.library.custom_op("transxnet::batch_norm_c_backward", mutates_args=())
def _batch_norm_backward(
    g: Tensor, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, eps: float, gelu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    g = g.contiguous(memory_format=torch.channels_last)
    return kernel.backward(g, x, mean, variance, weight, eps=eps, gelu=gelu)


@_batch_norm_backward.register_fake
def _(
    g: Tensor, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, eps: float, gelu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


def _setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, weight, _, ctx.eps, ctx.gelu = inputs
    _, mean, variance = output
    ctx.mark_non_differentiable(mean, variance)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, mean, variance, weight)


def _backward(ctx: Any, g: Tensor | None, *_: Tensor | None) -> tuple:
    if g is None:
        return None, None, None, None, None
    x, mean, variance, weight = ctx.saved_tensors
    dx, dweight, dbias = _batch_norm_backward(g, x, mean, variance, weight, ctx.eps, ctx.gelu)
    return dx, dweight, dbias, None, None


_batch_norm.register_autograd(_backward, setup_context=_setup_context)


def _setup_second(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
    g, x, _, _, weight, ctx.eps, ctx.gelu = inputs
    ctx.save_for_backward(g, x, weight)


def _second_backward(ctx: Any, *grads: Tensor | None) -> tuple:
    """The second derivatives, from those of the reference."""
    with torch.enable_grad():
        g, x, weight = (t.detach().requires_grad_() for t in ctx.saved_tensors)
        bias = torch.zeros_like(weight).requires_grad_()
        out = batch_norm_reference(x, weight, bias, ctx.eps, ctx.gelu)[0]
        first = torch.autograd.grad(out, (x, weight, bias), g, create_graph=True)
    pairs = [(value, grad) for value, grad in zip(first, grads, strict=True) if grad is not None]
    values, weights = zip(*pairs, strict=True)
    dg, dx, dweight = torch.autograd.grad(values, (g, x, weight), weights, allow_unused=True)
    return dg, dx, None, None, dweight, None, None


_batch_norm_backward.register_autograd(_second_backward, setup_context=_setup_second)
