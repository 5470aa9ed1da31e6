"""The mixing block of MixFormer (Tables VI and XII): window attention and convolution with mutual interaction."""

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_odd, check_positive
from transxnet.layers.compared.window import RelativePositionBias, window_attention
from transxnet.ops import multiscale_depthwise_conv2d


class MixingBlock(nn.Module):
    """Window attention and a depthwise convolution in parallel, with an interaction in each direction.

    Source: Chen et al., "MixFormer: mixing features across windows and dimensions", CVPR 2022, and its published code.
    The convolution takes all C channels, the attention half of them, with a relative position bias, in windows that are
    never shifted, since the convolution connects them. The convolution weights the channels of the attention's values
    (channel interaction, as in squeeze-and-excitation); the attention weights the positions of the convolution (spatial
    interaction). Both halves are normalized, concatenated, attention first, and projected.

    Args:
        dim: channels C, even, at least 16.
        num_heads: attention heads, dividing C / 2.
        window_size: side of the windows.
        kernel_size: of the depthwise convolution, odd; 3 in the source.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: an argument outside these ranges.

    Note:
        A BatchNorm sees one value per channel for each sample, so training needs a batch size of at least two.
    """

    def __init__(self, dim: int, num_heads: int = 1, window_size: int = 7, kernel_size: int = 3):
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads, window_size=window_size)
        check_odd(kernel_size=kernel_size)
        if dim < 16:
            raise ValueError(
                f"dim must be at least 16, since the spatial interaction uses a sixteenth of it, got {dim}"
            )
        check_divisible("dim", dim, "the number of branches", 2)
        half = dim // 2
        check_divisible("dim / 2", half, "num_heads", num_heads)
        self.num_heads, self.window_size = num_heads, window_size
        self.to_attention = nn.Sequential(nn.Conv2d(dim, half, 1), LayerNorm2d(half, eps=1e-5))
        self.to_conv = nn.Sequential(nn.Conv2d(dim, dim, 1), LayerNorm2d(dim, eps=1e-5))
        self.dwconv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.dwconv_norm = nn.Sequential(nn.BatchNorm2d(dim), nn.GELU())
        self.channel_interaction = _interaction(dim, dim // 8, half)
        self.qkv = nn.Conv2d(half, 3 * half, 1)
        self.pos_bias = RelativePositionBias(num_heads, window_size)
        self.spatial_interaction = _interaction(half, dim // 16, 1)
        self.attention_norm = LayerNorm2d(half, eps=1e-5)
        self.narrow = nn.Conv2d(dim, half, 1)
        self.conv_norm = nn.BatchNorm2d(half)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        conv = multiscale_depthwise_conv2d(self.to_conv(x), [self.dwconv.weight], [self.dwconv.bias], identity=False)
        conv = self.dwconv_norm(conv)
        q, k, v = self.qkv(self.to_attention(x)).chunk(3, dim=1)
        v = v * self.channel_interaction(conv.mean((2, 3), keepdim=True)).sigmoid()
        attended = window_attention(q, k, v, self.num_heads, self.window_size, bias=self.pos_bias())
        conv = self.conv_norm(self.narrow(conv) * self.spatial_interaction(attended).sigmoid())
        return self.proj(torch.cat([self.attention_norm(attended), conv], dim=1))


def _interaction(dim: int, squeezed: int, out_dim: int) -> nn.Sequential:
    """The interaction from one branch to the other, before the sigmoid."""
    squeeze, expand = nn.Conv2d(dim, squeezed, 1), nn.Conv2d(squeezed, out_dim, 1)
    return nn.Sequential(squeeze, nn.BatchNorm2d(squeezed), nn.GELU(), expand)
