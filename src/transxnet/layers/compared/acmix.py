"""The ACmix block (Tables VI and XII): attention and convolution from the same projections."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_odd, check_positive
from transxnet.layers.compared.window import RelativePositionBias, check_shift, window_attention


class ShiftConv(nn.Module):
    """A grouped convolution, initialized as a sum of shifts: of K^2 maps per group, each shifted by one of K^2 offsets.

    It is ACmix's form of the shift operation, so that the offsets can be learned. It is a separate module, since the
    networks initialize the weights of every ``nn.Conv2d``.

    Args:
        groups: groups of K^2 input channels.
        out_dim: output channels, divided by the groups.
        kernel_size: K, odd.

    Shapes:
        (B, groups K^2, H, W) -> (B, out_dim, H, W).
    """

    def __init__(self, groups: int, out_dim: int, kernel_size: int):
        super().__init__()
        self.groups = groups
        shifts = torch.eye(kernel_size**2).unflatten(1, (kernel_size, kernel_size))
        self.weight = nn.Parameter(shifts.repeat(out_dim, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(out_dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2, groups=self.groups)


class ACmix(nn.Module):
    """Window attention and convolution that share their 1x1 projections, added with learnable weights.

    Source: Pan et al., "On the integration of self-attention and convolution", CVPR 2022, and its published Swin form.
    One 1x1 convolution computes queries, keys and values. The attention path is Swin's, including the projection. The
    convolution path mixes the 3 h heads of all three into K^2 maps of d channels, in the same way for each channel,
    shifts each map by its offset, and adds them (:class:`ShiftConv`). In the published code the convolution runs on the
    map that was rolled for the shifted windows, so it wraps around at the borders; here it runs on the original map.

    Args:
        dim: channels C.
        num_heads: attention heads h, dividing C.
        window_size: side of the windows.
        shift: shift of the windows, from 0 to window_size - 1.
        kernel_size: K of the convolution path, odd; 3 in the source.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: an argument outside these ranges.
    """

    def __init__(self, dim: int, num_heads: int = 1, window_size: int = 7, shift: int = 0, kernel_size: int = 3):
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads, window_size=window_size)
        check_divisible("dim", dim, "num_heads", num_heads)
        check_shift(shift, window_size)
        check_odd(kernel_size=kernel_size)
        self.num_heads, self.window_size, self.shift = num_heads, window_size, shift
        self.qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.pos_bias = RelativePositionBias(num_heads, window_size)
        self.proj = nn.Conv2d(dim, dim, 1)
        self.mix = nn.Conv2d(3 * num_heads, kernel_size**2, 1)
        self.shift_conv = ShiftConv(dim // num_heads, dim, kernel_size)
        self.attention_weight = nn.Parameter(torch.full((1,), 0.5))
        self.conv_weight = nn.Parameter(torch.full((1,), 0.5))

    def attend(self, qkv: Tensor) -> Tensor:
        """Compute the attention path: (B, 3 C, H, W) -> (B, C, H, W)."""
        q, k, v = qkv.chunk(3, dim=1)
        return self.proj(window_attention(q, k, v, self.num_heads, self.window_size, self.shift, self.pos_bias()))

    def convolve(self, qkv: Tensor) -> Tensor:
        """Compute the convolution path: (B, 3 C, H, W) -> (B, C, H, W)."""
        heads = qkv.unflatten(1, (3 * self.num_heads, -1))  # (B, 3 h, d, H, W)
        mixed = self.mix(heads.flatten(3)).transpose(1, 2)  # (B, d, K^2, H W)
        return self.shift_conv(mixed.flatten(1, 2).unflatten(2, qkv.shape[2:]))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x)
        attended, convolved = self.attend(qkv), self.convolve(qkv)
        # Cast to the branch's dtype, so that half precision is kept under autocast.
        a, c = self.attention_weight.to(attended.dtype), self.conv_weight.to(convolved.dtype)
        return a * attended + c * convolved
