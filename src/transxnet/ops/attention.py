"""Attention of all positions to a reduced set of keys, with a position bias shared by the batch (Eq. 4).

Shapes: B batch, h heads, N queries, M keys, d channels of a head. The Triton kernels are in
:mod:`transxnet.ops.kernels.attention_kernels`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.autocast import cast_to_autocast
from transxnet.ops.backend import choose, is_transforming
from transxnet.ops.fx_leaf import fx_leaf


def biased_attention_reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """The definition in plain PyTorch, the reference for all other implementations."""
    if bias is not None:
        bias = bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


@fx_leaf(scripted=biased_attention_reference)
def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of all positions to a reduced set of keys, with a position bias shared by the batch (Eq. 4).

    Args:
        q: (B, h, N, d), any strides.
        k: (B, h, M, d).
        v: (B, h, M, d).
        bias: (1, h, N, M) or None.

    Returns:
        (B, h, N, d): ``softmax(q k^T / sqrt(d) + bias) v`` in the dtype of q, or of autocast if enabled. The softmax is
        float32 or wider.

    Raises:
        UserError: TRANSXNET_OPS asks for an implementation that does not support this input.
    """
    q, k, v = cast_to_autocast(q), cast_to_autocast(k), cast_to_autocast(v)
    choice = choose("biased_attention", q, k, v, bias, run=_run)
    return _run(choice.implementation, q, k, v, bias)


def _run(implementation: str, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    if implementation == "triton":
        return biased_attention_triton(q, k, v, bias)[0]
    if is_transforming() or _needs_second_derivatives(q, bias):
        return biased_attention_composed(q, k, v, bias)
    if implementation == "cpu":
        return biased_attention_cpu(q, k, v, bias)
    return biased_attention_reference(q, k, v, bias)


def biased_attention_composed(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """The same from matrix products and a softmax, which PyTorch can transform and differentiate any number of times.

    PyTorch's fused attention on CPUs supports neither second derivatives, forward mode nor ``torch.func``.
    """
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
    if bias is not None:
        logits = logits + bias.to(q.dtype)
    wide = torch.promote_types(q.dtype, torch.float32)
    return logits.softmax(dim=-1, dtype=wide).to(q.dtype) @ v


def _needs_second_derivatives(q: Tensor, bias: Tensor | None) -> bool:
    """Whether the input's gradient in a network with frozen weights may be differentiated again, on a CPU.

    A bias with a gradient already excludes the fused attention.
    """
    frozen = bias is not None and not bias.requires_grad
    return frozen and q.requires_grad and q.device.type == "cpu" and not torch.compiler.is_compiling()


def biased_attention_cpu(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """The reference, with tensors in the layout that PyTorch's fused CPU attention needs.

    It needs the channels of a head to be adjacent in memory. In feature maps that are not channels_last they are not,
    and PyTorch would store all scores of all heads in memory instead.
    """
    q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
    return biased_attention_reference(q, k, v, bias)


@torch.library.custom_op("transxnet::biased_attention", mutates_args=())
def biased_attention_triton(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """The output, and the log-sum-exp of each row's scores, (B, h, N) in float32, for the backward pass."""
    from transxnet.ops.kernels.attention_kernels import attention

    return attention(q, k, v, bias)


@biased_attention_triton.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    B, h, N, d = q.shape
    return q.new_empty((B, N, h, d)).transpose(1, 2), q.new_empty((B, h, N), dtype=torch.float32)


@torch.library.custom_op("transxnet::biased_attention_backward", mutates_args=())
def biased_attention_triton_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, want_bias: bool
) -> list[Tensor]:
    """The gradients of q, k, v and, if needed, of bias."""
    from transxnet.ops.kernels.attention_kernels import attention_gradients

    return [grad for grad in attention_gradients(g, q, k, v, bias, out, lse, want_bias) if grad is not None]


@biased_attention_triton_backward.register_fake
def _(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, want_bias: bool
) -> list[Tensor]:
    grads = [torch.empty_like(out), *(t.new_empty(t.shape) for t in (k, v))]
    return grads if bias is None or not want_bias else [*grads, torch.empty_like(bias)]


def _setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, g: Tensor | None, g_lse: None) -> tuple:
    if g is None:
        return None, None, None, None
    q, k, v, bias, out, lse = ctx.saved_tensors
    want_bias = bias is not None and ctx.needs_input_grad[3]
    dq, dk, dv, *dbias = biased_attention_triton_backward(g, q, k, v, bias, out, lse, want_bias)
    return dq, dk, dv, dbias[0] if want_bias else None


biased_attention_triton.register_autograd(_backward, setup_context=_setup_context)
