"""Non-overlapping spatial reduction: PVT's attention (Tables VI and XII), and OSRA without overlap (Table X)."""

from timm.layers import LayerNorm2d
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_positive
from transxnet.layers.compared.padding import pad_to_multiple
from transxnet.layers.conv_norm import ConvNorm
from transxnet.ops import biased_attention


class NonOverlappingSpatialReduction(nn.Sequential):
    """NSR of Table X: OSR with kernel size equal to its stride, so that each position belongs to one patch.

    The paper says that OSR beats NSR "without incurring additional computational costs", so NSR is depthwise like OSR,
    unlike PVT's dense convolution; only the kernel size changes. Sides that the stride does not divide are padded with
    zeros.

    Args:
        dim: channels.
        stride: s, side of the patches and distance between them.

    Shapes:
        (B, dim, H, W) -> (B, dim, ceil(H / s), ceil(W / s)).
    """

    def __init__(self, dim: int, stride: int):
        super().__init__()
        self.reduce = ConvNorm(dim, dim, stride, stride, groups=dim)
        self.act = nn.GELU()
        self.scale = ConvNorm(dim, dim, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_to_multiple(x, self.reduce.conv.stride[0]))


class SRA(nn.Module):
    """Spatial-reduction attention: from every position to keys and values of non-overlapping patches.

    Source: Wang et al., PVT, ICCV 2021, and PVT v2: keys and values come from a dense convolution with kernel size
    equal to its stride and a LayerNorm over the channels; all layers have biases; a projection follows. There is no
    position bias. If the stride does not divide a side, PVT drops the remainder; here it is padded with zeros.

    Args:
        dim: channels C.
        num_heads: attention heads h, dividing C.
        sr_ratio: s, side of the patches; 1 for no reduction.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive, or heads that do not divide the channels.
    """

    def __init__(self, dim: int, num_heads: int = 1, sr_ratio: int = 1):
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads, sr_ratio=sr_ratio)
        check_divisible("dim", dim, "num_heads", num_heads)
        self.num_heads, self.sr_ratio = num_heads, sr_ratio
        self.q = nn.Conv2d(dim, dim, 1)
        self.reduction = nn.Conv2d(dim, dim, sr_ratio, sr_ratio) if sr_ratio > 1 else nn.Identity()
        self.norm = LayerNorm2d(dim, eps=1e-5) if sr_ratio > 1 else nn.Identity()
        self.kv = nn.Conv2d(dim, 2 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.kv(self.norm(self.reduction(pad_to_multiple(x, self.sr_ratio)))).chunk(2, dim=1)
        out = biased_attention(self._heads(self.q(x)), self._heads(k), self._heads(v))
        return self.proj(out.transpose(2, 3).reshape(x.shape))
