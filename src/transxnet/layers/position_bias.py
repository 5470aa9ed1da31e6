"""The learnable position bias B of Eq. 4, one for all blocks of a stage."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionBias(nn.Module):
    """One bias a head for each pair of query and reduced key, resized to the size of the input at hand.

    The stored matrix belongs to one image size. For another, the whole (N, M) matrix is resized as if it were a
    picture, bicubic, as the published weights expect. Without gradients the last resized matrix is kept, so a run of
    images of one size pays once.

    Args:
        num_heads: attention heads h.
        num_queries: N of the size that the matrix is stored for.
        num_keys: M of that size.

    Shapes:
        ``forward(N', M')`` gives (1, h, N', M').
    """

    def __init__(self, num_heads: int, num_queries: int, num_keys: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, num_heads, num_queries, num_keys))
        self._kept: tuple[tuple, Tensor] | None = None

    def forward(self, num_queries: int, num_keys: int) -> Tensor:
        size = (num_queries, num_keys)
        if self.weight.shape[2:] == size:
            return self.weight
        if torch.compiler.is_compiling() or torch.is_grad_enabled():
            return resize_position_bias(self.weight, size)
        # The version counts in-place changes (an optimiser's step, a loaded checkpoint), the address replaced storage.
        key = (size, self.weight._version, self.weight.data_ptr(), self.weight.dtype, self.weight.device)
        if self._kept is None or self._kept[0] != key:
            self._kept = key, resize_position_bias(self.weight, size)
        return self._kept[1]

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_kept": None}


def resize_position_bias(bias: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (1, h, N, M) to (1, h, *size), bicubic with ``align_corners=False``, as the published code does."""
    return F.interpolate(bias, size=size, mode="bicubic", align_corners=False)
