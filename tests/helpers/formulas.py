"""Reference formulas for the tests of the layers, in float64."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(actual: Tensor, truth: Tensor) -> None:
    torch.testing.assert_close(actual, truth, rtol=0, atol=1e-12)


def affine(x: Tensor, norm: nn.Module) -> Tensor:
    return x * norm.weight[:, None, None] + norm.bias[:, None, None]


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """BatchNorm in eval mode."""
    mean, var = norm.running_mean[:, None, None], norm.running_var[:, None, None]
    return affine((x - mean) / (var + norm.eps).sqrt(), norm)


def layer_norm(x: Tensor, norm: nn.Module) -> Tensor:
    """LayerNorm over the channels of each position."""
    return affine((x - x.mean(1, True)) / (x.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt(), norm)


def pointwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    out = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x)
    return out if conv.bias is None else out + conv.bias[:, None, None]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """Depthwise convolution, channel by channel."""
    padding = weight.shape[-1] // 2
    channels = range(len(weight))
    convolved = [F.conv2d(x[:, c : c + 1], weight[c : c + 1], stride=stride, padding=padding) for c in channels]
    return torch.cat(convolved, 1) + (0 if bias is None else bias[:, None, None])


def patches(x: Tensor, step: int) -> Tensor:
    """(B, C, H, W) -> (B, C, rows, columns, step, step), zero-padded outside the image."""
    x = F.pad(x, (0, -x.shape[3] % step, 0, -x.shape[2] % step))
    return x.unfold(2, step, step).unfold(3, step, step)


def windows(q: Tensor, k: Tensor, v: Tensor, heads: int, w: int, shift: int = 0, table: Tensor | None = None) -> Tensor:
    """Window attention, computed as global attention masked to pairs within the same window.

    Windows start at multiples of w, moved by the shift along sides longer than a window. The table has one column per
    head and a bias for each offset between query and key, rows first, from -(w - 1) to w - 1.
    """
    H, W = q.shape[2:]
    rows, columns = torch.arange(H).repeat_interleave(W), torch.arange(W).repeat(H)
    row_shift, column_shift = (0 if side <= w else shift for side in (H, W))
    row_window = (rows - row_shift).div(w, rounding_mode="floor")
    column_window = (columns - column_shift).div(w, rounding_mode="floor")
    together = (row_window[:, None] == row_window) & (column_window[:, None] == column_window)
    offset = (rows[:, None] - rows + w - 1) * (2 * w - 1) + columns[:, None] - columns + w - 1
    out = []
    for head, (qh, kh, vh) in enumerate(zip(*(t.flatten(2).chunk(heads, 1) for t in (q, k, v)), strict=True)):
        scores = torch.einsum("bcn,bcm->bnm", qh, kh) / math.sqrt(qh.shape[1])
        if table is not None:
            scores = scores + table[offset.where(together, 0), head]
        shares = scores.masked_fill(~together, -math.inf).softmax(-1)
        out.append(torch.einsum("bnm,bcm->bcn", shares, vh))
    return torch.cat(out, 1).reshape(q.shape)
