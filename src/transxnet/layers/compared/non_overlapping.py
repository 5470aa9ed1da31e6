"""Non-overlapping patch embedding, as in Swin (Sec. IV-D, Table VI)."""

from torch import Tensor

from transxnet.layers.checks import check_positive
from transxnet.layers.compared.padding import pad_to_multiple
from transxnet.layers.conv_norm import ConvNorm


class NonOverlappingPatchEmbed(ConvNorm):
    """A convolution with kernel size equal to its stride, then BatchNorm.

    The paper says only "non-overlapping". This is :class:`~transxnet.layers.PatchEmbed` with that one property changed:
    the patch size is the stride, and the norm is still BatchNorm. Sides that the stride does not divide are padded with
    zeros, so that no pixel is lost.

    Args:
        in_dim: input channels.
        embed_dim: output channels.
        stride: side of the patches, and the distance between them.

    Shapes:
        (B, in_dim, H, W) -> (B, embed_dim, ceil(H / stride), ceil(W / stride)).

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(self, in_dim: int, embed_dim: int, stride: int = 2):
        check_positive(in_dim=in_dim, embed_dim=embed_dim, stride=stride)
        super().__init__(in_dim, embed_dim, stride, stride)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_to_multiple(x, self.conv.stride[0]))
