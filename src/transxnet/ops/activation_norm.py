"""GELU, BatchNorm and the layer that follows, keeping one tensor for the backward pass instead of three.

GELU and BatchNorm are cheap to compute again. Autograd would keep the input of GELU, the input of BatchNorm and the
input of the layer; here the last two are computed again in the backward pass, with equal results up to rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from transxnet.ops.backend import is_observed, is_transforming


def gelu_norm(x: Tensor, norm: nn.BatchNorm2d, then: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute ``then(norm(gelu(x)))``.

    In training only x is kept of the three inputs. Where that does not apply (in evaluation, for another kind of norm,
    in compiled, traced and exported programs, under torch.func and dispatch modes) this is the plain expression.

    Args:
        x: (B, C, H, W).
        norm: BatchNorm over C.
        then: the layer that follows.
    """
    if not _can_recompute(x, norm):
        return then(norm(F.gelu(x)))
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    activation: list[Tensor] = []  # GELU as computed again for the layer, for the gradient of BatchNorm
    args = (norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.momentum, norm.eps, activation)
    out, mean, rstd = _GeluBatchNorm.apply(x, *args)
    kept, weight, bias = x.detach(), norm.weight.detach(), norm.bias.detach()
    address, shape = out.data_ptr(), out.shape  # the hooks must not keep the tensor

    def pack(saved: Tensor) -> Tensor | None:
        return None if saved.data_ptr() == address and saved.shape == shape else saved

    def unpack(packed: Tensor | None) -> Tensor:
        if packed is not None:
            return packed
        activation[:] = [F.gelu(kept)]
        return _normalize(activation[0], weight, bias, mean, rstd, norm.eps)

    with saved_tensors_hooks(pack, unpack):
        return then(out)


def _can_recompute(x: Tensor, norm: nn.Module) -> bool:
    return (
        type(x) is Tensor
        and type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and x.numel() > x.shape[1]  # otherwise BatchNorm raises its own error
        and torch.is_grad_enabled()
        and not (norm._forward_hooks or norm._forward_pre_hooks)
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not is_transforming()
        and not is_observed()
    )


def _normalize(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> Tensor:
    """BatchNorm with these statistics."""
    return F.batch_norm(x, mean, rstd.pow(-2) - eps, weight, bias, training=False, eps=eps)


class _GeluBatchNorm(torch.autograd.Function):
    """BatchNorm of GELU in training, which keeps the input of GELU only; returns also the batch mean and 1 / std."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *statistics: Any) -> tuple[Tensor, Tensor, Tensor]:
        running_mean, running_var, momentum, ctx.eps, ctx.activation = statistics
        out, mean, rstd = torch.native_batch_norm(
            F.gelu(x), weight, bias, running_mean, running_var, True, momentum, ctx.eps
        )
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        ctx.mark_non_differentiable(mean, rstd)
        return out, mean, rstd

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Any) -> tuple:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():  # for second derivatives
            inputs = x, weight, bias
            out = F.batch_norm(F.gelu(x), None, None, weight, bias, training=True, eps=ctx.eps)
            needed = [i for i in range(3) if ctx.needs_input_grad[i]]
            found = torch.autograd.grad(out, [inputs[i] for i in needed], g, create_graph=True)
            grads: list[Tensor | None] = [None] * 3
            for i, grad in zip(needed, found, strict=True):
                grads[i] = grad
        else:
            mask = list(ctx.needs_input_grad[:3])
            activation = ctx.activation.pop() if ctx.activation else F.gelu(x)
            grads = list(
                torch.ops.aten.native_batch_norm_backward(
                    g, activation, weight, None, None, mean, rstd, True, ctx.eps, mask
                )
            )
            if mask[0]:
                grads[0] = torch.ops.aten.gelu_backward(grads[0], x)
        return (*grads, None, None, None, None, None)
