"""The learnable position bias B of Eq. 4, shared by all blocks of a stage."""

import torch
from torch import Tensor, nn

from transxnet.ops.backend import is_transforming
from transxnet.ops.fx_leaf import fx_leaf
from transxnet.ops.resampling import resize_bicubic, resize_bicubic_reference


class PositionBias(nn.Module):
    """One bias per head for each pair of query and reduced key, resized to the input's size.

    The stored matrix belongs to one image size. For another, the whole (N, M) matrix is resized like an image, bicubic,
    as the published weights expect. Without gradients the last resized matrix is cached, so a series of images of one
    size is resized once.

    Args:
        num_heads: attention heads h.
        num_queries: N of the stored size.
        num_keys: M of the stored size.

    Shapes:
        ``forward(N', M')`` returns (1, h, N', M').
    """

    def __init__(self, num_heads: int, num_queries: int, num_keys: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, num_heads, num_queries, num_keys))
        self._kept: tuple[tuple, Tensor] | None = None

    def forward(self, num_queries: int, num_keys: int) -> Tensor:
        size = (num_queries, num_keys)
        compiling, learning = torch.compiler.is_compiling(), torch.is_grad_enabled()
        if learning and not compiling:
            self._kept = None  # an optimizer step may follow, and a fused one does not increase the version
        if not (isinstance(num_queries, int) and isinstance(num_keys, int)):  # a program for any size
            return resize_position_bias(self.weight, size)
        if self.weight.shape[2:] == size:
            return self.weight.contiguous()
        if learning or compiling or self.weight.is_inference() or is_transforming():
            return resize_position_bias(self.weight, size)
        # The version counts in-place changes (optimizer steps, loaded checkpoints); the address detects new storage.
        key = (size, self.weight._version, self.weight.data_ptr(), self.weight.dtype, self.weight.device)
        kept = self._kept  # read once: another thread may use another size
        if kept is None or kept[0] != key:
            kept = self._kept = key, resize_position_bias(self.weight, size)
        return kept[1]

    def train(self, mode: bool = True) -> "PositionBias":
        """As in PyTorch; also clears the cache, since compiled training and ``.data`` do not increase the version."""
        self._kept = None
        return super().train(mode)

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_kept": None}


@fx_leaf(scripted=resize_bicubic_reference)
def resize_position_bias(bias: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (1, h, N, M) to (1, h, *size), bicubic with ``align_corners=False``, as the published code does.

    The result is contiguous even if ``model.to(memory_format=torch.channels_last)`` has reordered the bias; otherwise
    every attention would copy the whole matrix.
    """
    if all(isinstance(length, int) for length in size) and bias.shape[2:] == size:
        return bias.contiguous()
    return resize_bicubic(bias.contiguous(), size)
