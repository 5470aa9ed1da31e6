"""Which updates of the weights are made of numbers, and what the others leave behind."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


def finite_step(optimizer: Optimizer, losses: Sequence[Tensor]) -> bool:
    """Whether the losses of an update and the gradients that wait for the optimiser are finite.

    One pass over the gradients; on a GPU it waits for the device.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    values = torch.stack([*losses, get_total_norm(gradients).to(losses[0].device)])
    return bool(values.isfinite().all())


class KeptBuffers:
    """The buffers of a network after its last good update, to be put back after a bad one.

    An activation that is no number stays in a BatchNorm's running statistics for ever, though the weights are spared.

    Args:
        module: on its device; its buffers must stay the same tensors.
    """

    def __init__(self, module: nn.Module):
        self._live = list(module.buffers())
        self._kept = [buffer.clone() for buffer in self._live]

    def keep(self) -> None:
        """Remember the buffers as they are."""
        self._copy(self._live, self._kept)

    def put_back(self) -> None:
        """Make the buffers what they were."""
        self._copy(self._kept, self._live)

    @staticmethod
    def _copy(source: list[Tensor], target: list[Tensor]) -> None:
        if source:
            torch._foreach_copy_(target, source)
