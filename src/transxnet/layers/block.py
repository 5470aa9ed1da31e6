"""The basic block of TransXNet: DPE, D-Mixer and MS-FFN (Fig. 3, Eq. 1)."""

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from transxnet.layers.dmixer import DMixer
from transxnet.layers.dpe import DPE
from transxnet.layers.msffn import MSFFN


class LayerScale(nn.Module):
    """A weight and a bias for each channel. Shapes: (B, dim, H, W) -> the same.

    Args:
        dim: channels.
        init_value: of the weight; the bias starts from zero.
    """

    def __init__(self, dim: int, init_value: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), init_value))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        # Cast to the input's type, so that under autocast a half-precision branch stays one.
        scale, shift = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return x * scale[:, None, None] + shift[:, None, None]


class Block(nn.Module):
    """Position encoding, token mixing and channel mixing, each around a residual (Eq. 1).

    Args:
        dim: channels C, even.
        num_heads: heads of OSRA.
        sr_ratio: stride of OSRA's reduction.
        kernel_size: side of IDConv's kernels.
        num_groups: kernels in IDConv's bank.
        mlp_ratio: expansion of MS-FFN.
        drop_path: rate at which training drops a residual branch of a sample (stochastic depth).
        layer_scale_init_value: first value of LayerScale's weights.

    Shapes:
        x (B, C, H, W), pos_bias (1, h, N, M) or None -> (B, C, H, W).

    Raises:
        ValueError: what the parts refuse.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 1,
        sr_ratio: int = 1,
        kernel_size: int = 7,
        num_groups: int = 2,
        mlp_ratio: int = 4,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-5,
    ):
        super().__init__()
        self.dpe = DPE(dim)
        self.norm1 = nn.GroupNorm(1, dim)
        self.mixer = DMixer(dim, num_heads, sr_ratio, kernel_size, num_groups)
        self.scale1 = LayerScale(dim, layer_scale_init_value)
        self.norm2 = nn.GroupNorm(1, dim)
        self.ffn = MSFFN(dim, mlp_ratio)
        self.scale2 = LayerScale(dim, layer_scale_init_value)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        x = self.dpe(x)
        x = x + self.drop_path(self.scale1(self.mixer(self.norm1(x), pos_bias)))
        return x + self.drop_path(self.scale2(self.ffn(self.norm2(x))))
