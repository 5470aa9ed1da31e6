"""Window attention: of Twins (Table VII) and, shifted and with a position bias, of Swin (Tables VI and XII)."""

import torch
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_positive
from transxnet.layers.compared.padding import pad_to_multiple
from transxnet.ops import biased_attention


class RelativePositionBias(nn.Module):
    """A learnable bias per head for each offset between two positions of a window, as in Swin.

    Args:
        num_heads: attention heads h.
        window_size: side w of the windows.

    Shapes:
        ``forward()`` returns (h, w^2, w^2), queries before keys.
    """

    def __init__(self, num_heads: int, window_size: int):
        super().__init__()
        self.window_size = window_size
        self.weight = nn.Parameter(torch.empty((2 * window_size - 1) ** 2, num_heads))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self) -> Tensor:
        w = self.window_size
        at = torch.arange(w, device=self.weight.device)
        offset = at[:, None] - at + w - 1
        index = offset[:, None, :, None] * (2 * w - 1) + offset[None, :, None, :]
        return self.weight[index.reshape(w * w, w * w)].permute(2, 0, 1)


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, window_size: int, shift: int = 0, bias: Tensor | None = None
) -> Tensor:
    """Multi-head attention of each position to those of its window.

    The windows start at the upper left corner, or are shifted from there by ``shift`` to the right and down, with
    smaller windows at the borders. (As in Swin the map is rolled, and a mask separates positions that were not adjacent
    before.) Padding up to whole windows is masked too: no position attends to it. A side no longer than a window is one
    window and not shifted.

    Args:
        q: (B, C, H, W), heads concatenated.
        k: as q.
        v: as q.
        num_heads: h, dividing C.
        window_size: side w of the windows.
        shift: from 0 to w - 1.
        bias: (h, w^2, w^2), added to the scores of every window, or None.

    Returns:
        (B, C, H, W).
    """
    H, W = q.shape[2:]
    w, shifts = window_size, tuple(shift if side > window_size else 0 for side in (H, W))
    q, k, v = (_to_windows(t, num_heads, w, shifts) for t in (q, k, v))
    windows = q.shape[1]
    apart = _apart((H, W), w, shifts, q.device)
    if apart is None:
        bias = None if bias is None else bias[None]
        out = biased_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), bias).unflatten(0, (-1, windows))
    else:
        # The operator has one bias for the whole batch, so each head of each window is passed as a head.
        zeros = q.new_zeros(windows, num_heads, w * w, w * w)
        bias = (zeros if bias is None else zeros + bias).masked_fill(apart[:, None], float("-inf"))
        out = biased_attention(q.flatten(1, 2), k.flatten(1, 2), v.flatten(1, 2), bias.flatten(0, 1)[None])
        out = out.unflatten(1, (windows, num_heads))
    return _from_windows(out, (H, W), w, shifts)


def _to_windows(x: Tensor, num_heads: int, w: int, shifts: tuple[int, int]) -> Tensor:
    """(B, C, H, W) -> (B, windows, h, w^2, d)."""
    x = pad_to_multiple(x, w)
    if any(shifts):
        x = x.roll((-shifts[0], -shifts[1]), dims=(2, 3))
    x = x.unflatten(3, (-1, w)).unflatten(2, (-1, w)).unflatten(1, (num_heads, -1))  # (B, h, d, rows, w, columns, w)
    return x.permute(0, 3, 5, 1, 4, 6, 2).flatten(4, 5).flatten(1, 2)


def _from_windows(x: Tensor, size: tuple[int, int], w: int, shifts: tuple[int, int]) -> Tensor:
    """(B, windows, h, w^2, d) -> (B, C, H, W)."""
    rows, columns = -(-size[0] // w), -(-size[1] // w)
    x = x.unflatten(3, (w, w)).unflatten(1, (rows, columns))
    x = x.permute(0, 3, 6, 1, 4, 2, 5).flatten(5, 6).flatten(3, 4).flatten(1, 2)
    if any(shifts):
        x = x.roll(shifts, dims=(2, 3))
    return x[:, :, : size[0], : size[1]]


def _apart(size: tuple[int, int], w: int, shifts: tuple[int, int], device: torch.device) -> Tensor | None:
    """Mask of positions in each window that must not see each other, (windows, w^2, w^2), or None if all may."""
    if not any(shifts) and size[0] % w == size[1] % w == 0:
        return None
    regions = []
    for side, shift in zip(size, shifts, strict=True):
        padded = side + -side % w
        at = torch.arange(padded, device=device) + shift
        wrapped, filled = at >= padded, at % padded >= side
        regions.append((wrapped + 2 * filled).unflatten(0, (-1, w)))
    regions = regions[0][:, None, :, None] * 4 + regions[1][None, :, None, :]
    regions = regions.flatten(2).flatten(0, 1)
    return regions[:, :, None] != regions[:, None, :]


class WindowAttention(nn.Module):
    """Multi-head attention within non-overlapping windows.

    Source: the locally-grouped self-attention of Chu et al., Twins, NeurIPS 2021, which TransXNet's paper names for its
    Table VII: queries, keys and values from one linear layer, then a projection, no position bias, no shift. The number
    of heads is that of the stage's OSRA; the paper does not specify it.

    Args:
        dim: channels C.
        num_heads: attention heads h, dividing C.
        window_size: side of the windows.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive, or heads that do not divide the channels.
    """

    def __init__(self, dim: int, num_heads: int = 1, window_size: int = 7):
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads, window_size=window_size)
        check_divisible("dim", dim, "num_heads", num_heads)
        self.num_heads, self.window_size = num_heads, window_size
        self.qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=1)
        return self.proj(window_attention(q, k, v, self.num_heads, self.window_size))


class ShiftedWindowAttention(WindowAttention):
    """Attention within windows that are shifted between blocks, with a relative position bias.

    Source: Liu et al., Swin Transformer, ICCV 2021: every second block shifts its windows by half a window.

    Args:
        dim: channels C.
        num_heads: attention heads h, dividing C.
        window_size: side of the windows.
        shift: shift of the windows, from 0 to window_size - 1.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive, heads that do not divide the channels, or a shift outside its range.
    """

    def __init__(self, dim: int, num_heads: int = 1, window_size: int = 7, shift: int = 0):
        super().__init__(dim, num_heads, window_size)
        check_shift(shift, window_size)
        self.shift = shift
        self.pos_bias = RelativePositionBias(num_heads, window_size)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=1)
        return self.proj(window_attention(q, k, v, self.num_heads, self.window_size, self.shift, self.pos_bias()))


def check_shift(shift: int, window_size: int) -> None:
    """Raise ValueError unless the shift is smaller than the windows."""
    if not isinstance(shift, int) or not 0 <= shift < window_size:
        raise ValueError(f"shift must be an integer from 0 to window_size - 1 ({window_size - 1}), got {shift!r}")
