"""Overlapping spatial reduction attention (Sec. III-B2, Fig. 4c)."""

from collections.abc import Callable

from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_positive, resolve_part
from transxnet.layers.conv_norm import ConvNorm
from transxnet.ops import biased_attention, multiscale_depthwise_conv2d
from transxnet.ops.recompute import batch_norm
from transxnet.ops.strided_conv import strided_depthwise_conv2d


class OverlappingSpatialReduction(nn.Sequential):
    """OSR of Eq. 4: a depthwise convolution with stride s and kernel size s + 3, then a 1x1 depthwise one.

    Shapes:
        (B, dim, H, W) -> (B, dim, ceil(H / s), ceil(W / s)).
    """

    def __init__(self, dim: int, stride: int):
        kernel_size = stride + 3
        super().__init__()
        self.reduce = ConvNorm(dim, dim, kernel_size, stride, padding=kernel_size // 2, groups=dim)
        self.act = nn.GELU()
        self.scale = ConvNorm(dim, dim, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.reduce.conv
        x = batch_norm(strided_depthwise_conv2d(x, conv.weight, conv.stride[0]), self.reduce.bn)
        return self.scale(self.act(x))


SPATIAL_REDUCTIONS: dict[str | None, Callable[[int, int], nn.Module]] = {"overlapping": OverlappingSpatialReduction}
"""Values of the option ``spatial_reduction``. :mod:`transxnet.layers.compared` adds those of Table X."""


class LocalRefinement(nn.Module):
    """``y + LR(y)`` of Eq. 4, where LR is a 3x3 depthwise convolution. Shapes: (B, dim, H, W) -> the same."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return multiscale_depthwise_conv2d(x, [self.dwconv.weight], [self.dwconv.bias])


class OSRA(nn.Module):
    """Multi-head attention from every position to overlapping, spatially reduced keys and values (Eq. 4).

    Args:
        dim: channels C.
        num_heads: attention heads h, dividing C.
        sr_ratio: stride s of the reduction; 1 for no reduction, only local refinement.
        spatial_reduction: "overlapping", as in the paper; "non_overlapping" (Table X); or a class, called with
            (dim, sr_ratio), that maps (B, C, H, W) -> (B, C, ceil(H / s), ceil(W / s)).

    Shapes:
        x (B, C, H, W), pos_bias (1, h, N, M) or None with N = H W and M = ceil(H / s) ceil(W / s) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive, or heads that do not divide the channels.
        UserError: another spatial_reduction.
    """

    def __init__(
        self, dim: int, num_heads: int = 1, sr_ratio: int = 1, spatial_reduction: str | Callable = "overlapping"
    ):
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads, sr_ratio=sr_ratio)
        check_divisible("dim", dim, "num_heads", num_heads)
        self.num_heads = num_heads
        self.q = nn.Conv2d(dim, dim, 1)
        make_reduction = resolve_part("spatial_reduction", spatial_reduction, SPATIAL_REDUCTIONS, "dim, sr_ratio")
        self.reduction = make_reduction(dim, sr_ratio) if sr_ratio > 1 else nn.Identity()
        self.refinement = LocalRefinement(dim)
        self.kv = nn.Conv2d(dim, 2 * dim, 1)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries (B, h, N, d), keys and values (B, h, M, d)."""
        q = self.q(x)
        k, v = self.kv(self.refinement(self.reduction(x))).chunk(2, dim=1)
        return self._heads(q), self._heads(k), self._heads(v)

    def attention(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        """Compute the attention weights, for analyses; ``forward`` applies them without storing them.

        Args:
            x: (B, C, H, W).
            pos_bias: as in ``forward``.

        Returns:
            (B, h, N, M), rows sum to 1.
        """
        q, k, _ = self.qkv(x)
        logits = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        return (logits if pos_bias is None else logits + pos_bias).softmax(dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.flatten(2).unflatten(1, (self.num_heads, -1)).transpose(2, 3)

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        out = biased_attention(*self.qkv(x), pos_bias)
        return out.transpose(2, 3).reshape(x.shape)
