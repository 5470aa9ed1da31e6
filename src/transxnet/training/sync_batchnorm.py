"""Synchronized BatchNorm: PyTorch's own on GPUs, and an implementation for CPUs, where PyTorch has none."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.plugins import LayerSync
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from transxnet.utils.errors import UserError


class SyncedBatchNorm(_BatchNorm):
    """BatchNorm that computes its training statistics over the batches of all processes, on any device.

    The state dict is that of the original layer. Each forward and each backward pass is one all-reduce, so all
    processes must run the same passes.

    Shapes:
        (B, C, ...) -> the same; B may differ between processes.

    Raises:
        ValueError: all processes together have one value per channel, which has no variance.
    """

    def __init__(self, norm: _BatchNorm):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        _share_tensors(norm, self)
        self.drop, self.act = getattr(norm, "drop", nn.Identity()), getattr(norm, "act", nn.Identity())
        self.original = [norm]  # in a list, to stay out of the module tree

    def forward(self, input: Tensor) -> Tensor:
        """Normalize; in evaluation mode with the running statistics, like any BatchNorm."""
        if not self.training:
            return self.act(self.drop(super().forward(input)))
        mean, var, count = _global_moments(input)
        if count < 2:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        self._update_running_stats(mean, var * (count / (count - 1)))
        return self.act(self.drop(_Normalize.apply(input, self.weight, self.bias, mean, var, self.eps, count)))

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, unbiased: Tensor) -> None:
        """Update the running statistics with the batch statistics."""
        if self.running_mean is None or self.running_var is None:
            return
        momentum = self.momentum
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1 / int(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum or 0.0)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum or 0.0)

    def _check_input_dim(self, input: Tensor) -> None:
        pass


def _share_tensors(norm: _BatchNorm, other: _BatchNorm) -> None:
    """Share parameters and buffers with another BatchNorm."""
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(other, name, getattr(norm, name))
    other.train(norm.training)


@torch.no_grad()
def _global_moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Compute mean (C,) and biased variance (C,) over all processes, in float64, and the number of values a channel."""
    dims = [d for d in range(x.dim()) if d != 1]
    var, mean = (m.double() for m in torch.var_mean(_to_float(x), dims, correction=0))
    count = x.new_full((1,), x.numel() // x.shape[1], dtype=torch.float64)
    sums = torch.cat([count, count * mean, count * (var + mean**2)])
    if dist.is_initialized():
        dist.all_reduce(sums)
    mean, square = (sums[1:] / sums[0]).chunk(2)
    return mean, (square - mean**2).clamp_(min=0), float(sums[0])


class _Normalize(torch.autograd.Function):
    """Compute ``(x - mean) / sqrt(var + eps) * weight + bias``, with mean and var over all processes.

    With u the normalized x and g the gradient of the output times the weight, the gradient of x is
    ``(g - mean(g) - u mean(g u)) / sqrt(var + eps)``, with means over all processes.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, var: Tensor, eps: float, n: float
    ) -> Tensor:
        wide = _to_float(x)
        shape = [1, -1] + [1] * (x.dim() - 2)
        inverse = (var + eps).rsqrt().to(wide.dtype).reshape(shape)
        mean = mean.to(wide.dtype).reshape(shape)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.n = n
        out = (wide - mean) * inverse
        if weight is not None and bias is not None:
            out = out * weight.reshape(shape) + bias.reshape(shape)
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, inverse = ctx.saved_tensors
        dims = [d for d in range(x.dim()) if d != 1]
        g = _to_float(grad)
        u = (_to_float(x) - mean) * inverse
        own = torch.cat([g.sum(dims), (g * u).sum(dims)])  # gradients of bias and weight, which DDP averages
        pooled = own.to(torch.float64, copy=True)
        if dist.is_initialized():
            dist.all_reduce(pooled)
        g_mean, gu_mean = ((pooled / ctx.n).to(g.dtype).reshape(2, *mean.shape)).unbind()
        dx = (g - g_mean - u * gu_mean) * inverse
        db, dw = own.chunk(2)
        if weight is None:
            return dx.to(x.dtype), None, None, None, None, None, None
        dx = dx * weight.reshape(mean.shape)
        return dx.to(x.dtype), dw.to(weight.dtype), db.to(weight.dtype), None, None, None, None


def _to_float(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


class BatchNormSync(LayerSync):
    """Lightning plugin that synchronizes the BatchNorms of a network across processes.

    Args:
        gpu: whether the network will run on GPUs.
    """

    def __init__(self, gpu: bool):
        self.gpu = gpu

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the network's BatchNorms with synchronized ones that share their tensors."""
        if self.gpu:
            return convert_sync_batchnorm(model)  # timm's, which supports its BatchNormAct2d
        return _convert(model, lambda m: SyncedBatchNorm(_check_supported(m)) if isinstance(m, _BatchNorm) else m)

    def revert(self, model: nn.Module) -> nn.Module:
        """On CPUs restore the original BatchNorms; on GPUs nothing changes, since evaluation is the same."""
        return _convert(model, lambda m: _restore_original(m) if isinstance(m, SyncedBatchNorm) else m)


def _restore_original(synced: SyncedBatchNorm) -> _BatchNorm:
    norm = synced.original[0]
    _share_tensors(synced, norm)
    return norm


def _check_supported(norm: _BatchNorm) -> _BatchNorm:
    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d):
        raise UserError(
            f"cannot synchronize {type(norm).__name__} over processes. Accepted: BatchNorm1d to BatchNorm3d and "
            "timm's BatchNormAct2d. Train in one process: --devices 1."
        )
    return norm


def _convert(module: nn.Module, other: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Replace each submodule with what ``other`` returns for it."""
    made = other(module)
    if made is not module:
        return made
    for name, child in list(module.named_children()):
        new = _convert(child, other)
        if new is not child:
            setattr(module, name, new)
    return module
