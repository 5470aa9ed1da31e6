"""The position bias of the inference form: stored for one more size, or computed in rows if it would fill memory.

Resized for a large image the bias is the network's largest tensor: for 800x1280 the first stage's has 64,000 rows of
1,000 keys, 256 MB in float32. But bicubic resizing is separable. Resized only along the keys it has as few rows as were
trained, and each row of the full bias is a weighted sum of four of them.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.layers import PositionBias, resize_position_bias
from transxnet.ops import biased_attention

# Largest resized bias, in elements, that is computed and stored as a whole: 64 MB in float32.
LARGEST_WHOLE = 1 << 24
# Elements of the rows computed at a time, 8 MB in float32: fewer leave too little work for all cores.
AT_A_TIME = 1 << 21


class PositionBiasRows:
    """A resized position bias (1, h, N, M) that is never in memory as a whole.

    Equal, up to rounding, to resizing the stored bias to (N, M) at once.

    Args:
        bias: (1, h, N0, M), the stored bias resized along the keys.
        num_queries: N.
    """

    def __init__(self, bias: Tensor, num_queries: int):
        _, num_heads, stored, self.num_keys = bias.shape
        # Half precision is accumulated in float32, as in PyTorch's resizing.
        self.stored_rows = bias.to(torch.promote_types(bias.dtype, torch.float32)).flatten(0, 2)
        taps, self.weights = bicubic_taps(stored, num_queries, self.stored_rows.dtype)
        self.taps = taps + stored * torch.arange(num_heads)[:, None, None]

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Iterate over chunks of rows: a slice of the N rows, and their bias (1, h, rows, M)."""
        num_heads, num_queries, _ = self.taps.shape
        step = max(1, AT_A_TIME // (num_heads * self.num_keys))
        for start in range(0, num_queries, step):
            rows = slice(start, start + step)
            taps = self.taps[:, rows]
            weights = self.weights[rows].expand(taps.shape)
            # embedding_bag is the only operator that sums weighted rows of a table in a single pass.
            piece = F.embedding_bag(
                taps.flatten(0, 1), self.stored_rows, per_sample_weights=weights.flatten(0, 1), mode="sum"
            )
            yield rows, piece.unflatten(0, (1, num_heads, -1))


class InferencePositionBias(PositionBias):
    """A position bias that can store its matrix for one more size.

    The stored matrix is not in the state dict; loading one resizes again. It is stored whole at any size, for compiled
    and exported networks and for GPUs.

    Shapes:
        ``forward(N', M')`` returns (1, h, N', M'). With more than ``LARGEST_WHOLE`` elements it returns
        :class:`PositionBiasRows` instead, if the size is not stored: on a CPU, without gradients, outside of compilers.

    Args:
        bias: the trained position bias.
        size: (N, M) to store it for, or None.
    """

    def __init__(self, bias: PositionBias, size: tuple[int, int] | None = None):
        super().__init__(*bias.weight.shape[1:])
        self.weight = bias.weight
        self.size = size
        self.register_buffer("resized", None, persistent=False)
        self._resize()

    @torch.no_grad()
    def _resize(self) -> None:
        # Three dimensions, (h, N, M), so that channels_last does not change the memory order.
        self.resized = None if self.size is None else resize_position_bias(self.weight, self.size)[0]

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._resize()

    def forward(self, num_queries: int, num_keys: int) -> Tensor | PositionBiasRows:
        if self.resized is not None and isinstance(num_queries, int) and self.size == (num_queries, num_keys):
            return self.resized[None]
        if self._by_rows(num_queries, num_keys):
            # PositionBias caches this for the next pass, instead of the whole matrix.
            along_keys = super().forward(self.weight.shape[2], num_keys)
            return PositionBiasRows(along_keys, num_queries)
        return super().forward(num_queries, num_keys)

    def _by_rows(self, num_queries: int, num_keys: int) -> bool:
        if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch.is_grad_enabled():
            return False
        num_heads, stored = self.weight.shape[1:3]
        # If there are no more rows than stored ones, resizing only along the keys saves nothing.
        large = num_queries > stored and num_heads * num_queries * num_keys > LARGEST_WHOLE
        return large and self.weight.device.type == "cpu"


def attention_by_rows(q: Tensor, k: Tensor, v: Tensor, bias: PositionBiasRows) -> Tensor:
    """:func:`transxnet.ops.biased_attention` in chunks of queries. Shapes as there; without gradients."""
    B, h, N, d = q.shape
    out = q.new_empty(B, N, h, d)  # in this order the heads can be concatenated without a copy
    for rows, piece in bias.pieces():
        out[:, rows] = biased_attention(q[:, :, rows], k, v, piece).transpose(1, 2)
    return out.transpose(1, 2)


def bicubic_taps(stored: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The four rows that bicubic resizing sums for each row, as in ``F.interpolate`` with ``align_corners=False``.

    Args:
        stored: number of input rows.
        size: number of output rows.
        dtype: data type of the weights, float32 or float64.

    Returns:
        Row indices and their weights, (size, 4) each.
    """
    # PyTorch rounds the scale and then the position. In float32 both are off by 1e-4 of a row if there are thousands,
    # and an exact position would not match.
    scale = (torch.tensor(stored, dtype=dtype) / size).double()
    position = (scale * (torch.arange(size, dtype=torch.float64) + 0.5) - 0.5).to(dtype)
    below = position.floor()
    rows = below.long()[:, None] + torch.arange(-1, 3)
    distance = (position - below)[:, None] + torch.tensor([1, 0, -1, -2], dtype=dtype)
    return rows.clamp(0, stored - 1), cubic(distance.abs())


def cubic(distance: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with A = -0.75, as in PyTorch, for distances from 0 to 2."""
    A = -0.75
    near = ((A + 2) * distance - (A + 3)) * distance * distance + 1
    far = ((A * distance - 5 * A) * distance + 8 * A) * distance - 4 * A
    return torch.where(distance <= 1, near, far)
