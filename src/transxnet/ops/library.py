"""The Triton kernels as PyTorch operators: names, shapes and gradients that autograd, compile and export know.

Every operator takes and gives what its namesake in :mod:`transxnet.ops.reference` does. The gradients are operators
too, so a compiled training step calls the kernels on both ways.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from transxnet.ops.kernels.attention import attention, attention_gradients
from transxnet.ops.kernels.depthwise import depthwise, depthwise_weight_gradient, empty_like


@torch.library.custom_op("transxnet::dynamic_depthwise_conv2d", mutates_args=())
def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return depthwise(x, weight, bias)


@dynamic_depthwise_conv2d.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return empty_like(x)


@torch.library.custom_op("transxnet::dynamic_depthwise_conv2d_backward", mutates_args=())
def dynamic_depthwise_conv2d_backward(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dw, db = depthwise_weight_gradient(x, g, weight.shape[-1], per_sample=True)
    return depthwise(g, weight, flip=True), dw, db


@dynamic_depthwise_conv2d_backward.register_fake
def _(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    B, C = x.shape[:2]
    dw = x.new_empty((B, *weight.shape[2:], C), dtype=torch.float32).movedim(-1, 1)
    return empty_like(g), dw, x.new_empty((B, C), dtype=torch.float32)


def _keep_dynamic(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weight, bias = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _dynamic_gradients(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    x, weight = ctx.saved_tensors
    dx, dw, db = dynamic_depthwise_conv2d_backward(g, x, weight)
    return dx, dw.to(weight.dtype), None if ctx.bias_dtype is None else db.to(ctx.bias_dtype)


dynamic_depthwise_conv2d.register_autograd(_dynamic_gradients, setup_context=_keep_dynamic)


@torch.library.custom_op("transxnet::multiscale_depthwise_conv2d", mutates_args=())
def multiscale_depthwise_conv2d(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], identity: bool, gelu: bool
) -> Tensor:
    out = empty_like(x)
    widths = [weight.shape[0] for weight in weights]
    for group, weight, bias, part in zip(x.split(widths, 1), weights, biases, out.split(widths, 1), strict=True):
        depthwise(group, weight.movedim(1, 0), bias[None], identity=identity, gelu=gelu, out=part)
    return out


@multiscale_depthwise_conv2d.register_fake
def _(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], identity: bool, gelu: bool) -> Tensor:
    return empty_like(x)


@torch.library.custom_op("transxnet::multiscale_depthwise_conv2d_backward", mutates_args=())
def multiscale_depthwise_conv2d_backward(
    g: Tensor, x: Tensor, weights: Sequence[Tensor], identity: bool
) -> list[Tensor]:
    """The gradients of x, of each weight, and of each bias, the latter two float32."""
    dx = empty_like(g)
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


@multiscale_depthwise_conv2d_backward.register_fake
def _(g: Tensor, x: Tensor, weights: Sequence[Tensor], identity: bool) -> list[Tensor]:
    dws = [x.new_empty((1, *w.shape[2:], w.shape[0]), dtype=torch.float32).movedim(-1, 0) for w in weights]
    return [empty_like(g), *dws, *(x.new_empty(w.shape[0], dtype=torch.float32) for w in weights)]


def _keep_multiscale(ctx: Any, inputs: tuple, output: Tensor) -> None:
    x, weights, biases, identity, gelu = inputs
    if gelu:
        raise NotImplementedError("the GELU is fused for inference only; there is no gradient for it")
    ctx.save_for_backward(x, *weights)
    ctx.identity = identity
    ctx.bias_dtypes = [bias.dtype for bias in biases]


def _multiscale_gradients(ctx: Any, g: Tensor) -> tuple:
    x, *weights = ctx.saved_tensors
    dx, *rest = multiscale_depthwise_conv2d_backward(g, x, weights, ctx.identity)
    dws = [dw.to(weight.dtype) for dw, weight in zip(rest, weights, strict=False)]
    dbs = [db.to(dtype) for db, dtype in zip(rest[len(weights) :], ctx.bias_dtypes, strict=True)]
    return dx, dws, dbs, None, None


multiscale_depthwise_conv2d.register_autograd(_multiscale_gradients, setup_context=_keep_multiscale)


@torch.library.custom_op("transxnet::biased_attention", mutates_args=())
def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The output, and the log-sum-exp of each row's scores, (B, h, N) in float32, for the backward pass."""
    return attention(q, k, v, bias)


@biased_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    B, h, N, d = q.shape
    return q.new_empty((B, N, h, d)).transpose(1, 2), q.new_empty((B, h, N), dtype=torch.float32)


@torch.library.custom_op("transxnet::biased_attention_backward", mutates_args=())
def biased_attention_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, want_bias: bool
) -> list[Tensor]:
    """The gradients of q, k, v and, if wanted, of bias."""
    return [grad for grad in attention_gradients(g, q, k, v, bias, out, lse, want_bias) if grad is not None]


@biased_attention_backward.register_fake
def _(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, want_bias: bool
) -> list[Tensor]:
    grads = [torch.empty_like(out), *(t.new_empty(t.shape) for t in (k, v))]
    return grads if bias is None or not want_bias else [*grads, torch.empty_like(bias)]


def _keep_attention(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _attention_gradients(ctx: Any, g: Tensor | None, g_lse: None) -> tuple:
    if g is None:
        return None, None, None, None
    q, k, v, bias, out, lse = ctx.saved_tensors
    want_bias = bias is not None and ctx.needs_input_grad[3]
    dq, dk, dv, *dbias = biased_attention_backward(g, q, k, v, bias, out, lse, want_bias)
    return dq, dk, dv, dbias[0] if want_bias else None


biased_attention.register_autograd(_attention_gradients, setup_context=_keep_attention)
