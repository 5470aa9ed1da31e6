"""The basic block of TransXNet: DPE, D-Mixer and MS-FFN (Fig. 3, Eq. 1)."""

from collections.abc import Callable, Sequence

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from transxnet.layers.checks import check_bool, check_ffn_scales
from transxnet.layers.dmixer import DMixer
from transxnet.layers.dpe import DPE
from transxnet.layers.ffn import FFN
from transxnet.layers.msffn import MSFFN
from transxnet.ops.recompute import group_norm, recompute_activations


class LayerScale(nn.Module):
    """A weight and a bias for each channel. Shapes: (B, dim, H, W) -> the same.

    Args:
        dim: channels.
        init_value: initial weight; the initial bias is zero.
    """

    def __init__(self, dim: int, init_value: float = 1e-5):
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), init_value))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        # Cast to the input's dtype, so that half precision is kept under autocast.
        scale, shift = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return x * scale[:, None, None] + shift[:, None, None]


class ResidualBlock(nn.Module):
    """A position encoding, and a token mixer and an FFN, each with a norm, LayerScale and a residual (Eq. 1).

    Args:
        dim: channels C.
        dpe: the position encoding.
        mixer: the token mixer, called with x, and with the position bias if there is one.
        ffn: the feed-forward network.
        drop_path: rate at which training drops a residual branch of a sample (stochastic depth).
        layer_scale_init_value: initial weight of LayerScale.

    Shapes:
        x (B, C, H, W), pos_bias (1, h, N, M) or None -> (B, C, H, W).
    """

    def __init__(
        self,
        dim: int,
        dpe: nn.Module,
        mixer: nn.Module,
        ffn: nn.Module,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-5,
    ):
        super().__init__()
        self.dpe = dpe
        self.norm1 = nn.GroupNorm(1, dim)
        self.mixer = mixer
        self.scale1 = LayerScale(dim, layer_scale_init_value)
        self.norm2 = nn.GroupNorm(1, dim)
        self.ffn = ffn
        self.scale2 = LayerScale(dim, layer_scale_init_value)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        with recompute_activations(x):
            x = self.dpe(x)
            y = group_norm(x, self.norm1)
            y = self.mixer(y) if pos_bias is None else self.mixer(y, pos_bias)
            x = x + self.drop_path(self.scale1(y))
            return x + self.drop_path(self.scale2(self.ffn(group_norm(x, self.norm2))))


class Block(ResidualBlock):
    """Position encoding, token mixing and channel mixing, each with a residual (Eq. 1).

    Args:
        dim: channels C, even.
        num_heads: heads of OSRA.
        sr_ratio: stride of OSRA's reduction.
        kernel_size: side of IDConv's kernels.
        num_groups: kernels in IDConv's bank.
        mlp_ratio: expansion of MS-FFN.
        drop_path: rate at which training drops a residual branch of a sample (stochastic depth).
        layer_scale_init_value: initial weight of LayerScale.
        local_conv: the local convolution, as in :class:`DMixer`.
        attn_ratio: fraction of the channels for OSRA, as in :class:`DMixer`.
        ffn_scales: odd kernel sizes of MS-FFN, or () for the plain FFN (Table VIII).
        dpe: whether there is a position encoding (Table X).
        spatial_reduction: OSRA's reduction, as in :class:`DMixer`.
        token_enhancer: the token enhancer, as in :class:`DMixer`.

    Shapes:
        x (B, C, H, W), pos_bias (1, h, N, M) or None -> (B, C, H, W).

    Raises:
        ValueError: an argument that the parts reject.
        UserError: a value of one of the last six that is not accepted.
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
        local_conv: str | Callable = "idconv",
        attn_ratio: float = 0.5,
        ffn_scales: Sequence[int] = (1, 3, 5, 7),
        dpe: bool = True,
        spatial_reduction: str | Callable = "overlapping",
        token_enhancer: str | Callable | None = "ste",
    ):
        check_bool(dpe=dpe)
        check_ffn_scales(ffn_scales)
        super().__init__(
            dim,
            dpe=DPE(dim) if dpe else nn.Identity(),
            mixer=DMixer(
                dim,
                num_heads,
                sr_ratio,
                kernel_size,
                num_groups,
                local_conv=local_conv,
                attn_ratio=attn_ratio,
                spatial_reduction=spatial_reduction,
                token_enhancer=token_enhancer,
            ),
            ffn=MSFFN(dim, mlp_ratio, ffn_scales) if ffn_scales else FFN(dim, mlp_ratio),
            drop_path=drop_path,
            layer_scale_init_value=layer_scale_init_value,
        )
