"""Overlapping patch embedding (Table I): the stem and the downsampling between stages."""

from transxnet.layers.checks import check_odd, check_positive
from transxnet.layers.conv_norm import ConvNorm


class PatchEmbed(ConvNorm):
    """A strided convolution with overlapping patches, then BatchNorm.

    The stem has a 7x7 kernel and stride 4, the layers between stages 3x3 and stride 2.

    Args:
        in_dim: input channels.
        embed_dim: output channels.
        patch_size: side of the kernel, odd.
        stride: distance between patches.

    Shapes:
        (B, in_dim, H, W) -> (B, embed_dim, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: a size that is not positive, or an even patch_size.
    """

    def __init__(self, in_dim: int, embed_dim: int, patch_size: int = 3, stride: int = 2):
        check_positive(in_dim=in_dim, embed_dim=embed_dim, stride=stride)
        check_odd(patch_size=patch_size)
        super().__init__(in_dim, embed_dim, patch_size, stride, padding=patch_size // 2)
