"""Depthwise convolutions of several kernel sizes, each on its own group of channels, plus the input (Fig. 5c).

Shapes: B batch, C channels, H x W positions, K kernel size. The Triton kernels are in
:mod:`transxnet.ops.kernels.depthwise_kernels`.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.autocast import cast_to_autocast
from transxnet.ops.backend import choose
from transxnet.ops.depthwise_cpu import depthwise_c
from transxnet.ops.depthwise_gradient import MIN_KERNEL_SIZE, depthwise_conv
from transxnet.ops.fx_leaf import fx_leaf
from transxnet.ops.kernels.launch import empty_output


def multiscale_depthwise_conv2d_reference(
    x: Tensor, weights: list[Tensor], biases: list[Tensor], identity: bool = True, gelu: bool = False
) -> Tensor:
    """The definition in plain PyTorch, the reference for all other implementations."""
    branches: list[Tensor] = []
    groups = x.split([w.shape[0] for w in weights], dim=1)
    for group, weight, bias in zip(groups, weights, biases):  # noqa: B905, torch.jit.script does not know strict
        branches.append(_conv2d(group, weight, bias))
    return _join(x, branches, identity, gelu)


@fx_leaf(scripted=multiscale_depthwise_conv2d_reference)
def multiscale_depthwise_conv2d(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, identity: bool = True, gelu: bool = False
) -> Tensor:
    """Depthwise convolutions of several kernel sizes, each on its own group of channels, plus the input (Fig. 5c).

    With one scale this is a plain depthwise convolution with a residual: DPE, the local refinement, STE.

    Args:
        x: (B, C, H, W), any strides.
        weights: a (C_i, 1, K_i, K_i) for each group in channel order, K_i odd; the C_i sum to C.
        biases: a (C_i,) for each group.
        identity: add x.
        gelu: apply GELU last, in the same pass over memory; for inference.

    Returns:
        (B, C, H, W): ``x + concat_i(conv2d(x_i, weights[i], biases[i]))`` with zero padding, in the dtype of x, or of
        autocast if enabled. Sums are float32 or wider.

    Raises:
        UserError: TRANSXNET_OPS asks for an implementation that does not support this input.
    """
    x = cast_to_autocast(x)
    weights, biases = list(weights), list(biases)
    choice = choose("multiscale_depthwise_conv2d", x, weights, biases, identity, gelu, run=_run)
    return _run(choice.implementation, x, weights, biases, identity, gelu)


def _run(
    implementation: str, x: Tensor, weights: list[Tensor], biases: list[Tensor], identity: bool, gelu: bool
) -> Tensor:
    if implementation == "triton":
        if gelu and torch.is_grad_enabled():  # the gradient of GELU needs its input
            return F.gelu(multiscale_depthwise_conv2d_triton(x, weights, biases, identity, False))
        return multiscale_depthwise_conv2d_triton(x, weights, biases, identity, gelu)
    if implementation == "c":
        out = depthwise_c(x, [w.movedim(1, 0) for w in weights], [b[None] for b in biases], identity=identity)
        return F.gelu(out) if gelu else out
    weights, biases = [w.to(x.dtype) for w in weights], [b.to(x.dtype) for b in biases]
    if implementation == "cpu":
        return multiscale_depthwise_conv2d_cpu(x, weights, biases, identity=identity, gelu=gelu)
    return multiscale_depthwise_conv2d_reference(x, weights, biases, identity=identity, gelu=gelu)


def multiscale_depthwise_conv2d_cpu(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, identity: bool = True, gelu: bool = False
) -> Tensor:
    """The reference with the backward pass of :mod:`transxnet.ops.depthwise_gradient`."""
    groups = x.split([w.shape[0] for w in weights], dim=1)
    branches = [
        _conv2d(group, w, b)
        if w.shape[-1] < MIN_KERNEL_SIZE or x.numel() == 0
        else depthwise_conv(group, w.movedim(1, 0), b[None])
        for group, w, b in zip(groups, weights, biases, strict=True)
    ]
    return _join(x, branches, identity, gelu)


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])


def _join(x: Tensor, branches: list[Tensor], identity: bool, gelu: bool) -> Tensor:
    out = branches[0] if len(branches) == 1 else torch.cat(branches, dim=1)
    if identity:
        out = x + out
    return F.gelu(out) if gelu else out


@torch.library.custom_op("transxnet::multiscale_depthwise_conv2d", mutates_args=())
def multiscale_depthwise_conv2d_triton(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], identity: bool, gelu: bool
) -> Tensor:
    """The Triton kernel as a PyTorch custom operator, for autograd, torch.compile and torch.export."""
    from transxnet.ops.kernels.depthwise_kernels import depthwise

    out = empty_output(x)
    widths = [weight.shape[0] for weight in weights]
    for group, weight, bias, part in zip(x.split(widths, 1), weights, biases, out.split(widths, 1), strict=True):
        depthwise(group, weight.movedim(1, 0), bias[None], identity=identity, gelu=gelu, out=part)
    return out


@multiscale_depthwise_conv2d_triton.register_fake
def _(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], identity: bool, gelu: bool) -> Tensor:
    return empty_output(x)


@torch.library.custom_op("transxnet::multiscale_depthwise_conv2d_backward", mutates_args=())
def multiscale_depthwise_conv2d_triton_backward(
    g: Tensor, x: Tensor, weights: Sequence[Tensor], identity: bool
) -> list[Tensor]:
    """The gradients of x, of each weight, and of each bias, the last two in float32."""
    from transxnet.ops.kernels.depthwise_kernels import depthwise, depthwise_weight_gradient

    dx = empty_output(g)
    widths = [weight.shape[0] for weight in weights]
    dws, dbs = [], []
    for g_part, x_part, weight, dx_part in zip(
        *(t.split(widths, 1) for t in (g, x)), weights, dx.split(widths, 1), strict=True
    ):
        depthwise(g_part, weight.movedim(1, 0), identity=identity, flip=True, out=dx_part)
        dw, db = depthwise_weight_gradient(x_part, g_part, weight.shape[-1], per_sample=False)
        dws.append(dw.movedim(0, 1))
        dbs.append(db[0])
    return [dx, *dws, *dbs]


@multiscale_depthwise_conv2d_triton_backward.register_fake
def _(g: Tensor, x: Tensor, weights: Sequence[Tensor], identity: bool) -> list[Tensor]:
    dws = [x.new_empty((1, *w.shape[2:], w.shape[0]), dtype=torch.float32).movedim(-1, 0) for w in weights]
    return [empty_output(g), *dws, *(x.new_empty(w.shape[0], dtype=torch.float32) for w in weights)]


def _setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weights, biases, identity, gelu = inputs
    if gelu:
        raise NotImplementedError("The fused GELU is for inference only: it has no gradient.")
    ctx.save_for_backward(x, *weights)
    ctx.identity = identity
    ctx.bias_dtypes = [bias.dtype for bias in biases]


def _backward(ctx: Any, g: Tensor) -> tuple:
    x, *weights = ctx.saved_tensors
    dx, *rest = multiscale_depthwise_conv2d_triton_backward(g, x, weights, ctx.identity)
    dws = [dw.to(weight.dtype) for dw, weight in zip(rest, weights, strict=False)]
    dbs = [db.to(dtype) for db, dtype in zip(rest[len(weights) :], ctx.bias_dtypes, strict=True)]
    return dx, dws, dbs, None, None


multiscale_depthwise_conv2d_triton.register_autograd(_backward, setup_context=_setup_context)
