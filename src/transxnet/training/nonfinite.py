"""Detect updates with NaN or Inf, and restore the buffers that they change."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


def is_finite_update(optimizer: Optimizer, losses: Sequence[Tensor]) -> bool:
    """Return whether the losses and the gradients of an update are finite.

    Takes one pass over the gradients; on a GPU it synchronizes with the device.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    values = torch.stack([*losses, get_total_norm(gradients).to(losses[0].device)])
    return bool(values.isfinite().all())


class BufferSnapshot:
    """Copy of a network's buffers after its last finite update, to restore after a non-finite one.

    NaN in a BatchNorm's running statistics would persist even though the update of the weights is skipped.

    Args:
        module: network on its device; its buffers must remain the same tensors.
    """

    def __init__(self, module: nn.Module):
        self._buffers = list(module.buffers())
        self._copies = [buffer.clone() for buffer in self._buffers]

    def save(self) -> None:
        """Copy the buffers."""
        self._copy(self._buffers, self._copies)

    def restore(self) -> None:
        """Restore the buffers from the copies."""
        self._copy(self._copies, self._buffers)

    @staticmethod
    def _copy(source: list[Tensor], target: list[Tensor]) -> None:
        if source:
            torch._foreach_copy_(target, source)
