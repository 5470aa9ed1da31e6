"""Multi-scale feed-forward network (Sec. III-C, Fig. 5c)."""

from collections.abc import Sequence

from torch import Tensor, nn

from transxnet.layers.checks import check_odd, check_positive
from transxnet.ops import multiscale_depthwise_conv2d
from transxnet.ops.recompute import batch_norm, recompute_activations


class MultiScaleDWConv(nn.ModuleList):
    """Depthwise convolutions with one kernel size for each group of channels, plus the input.

    The groups are equal, except that the first takes the remainder.

    Shapes:
        (B, dim, H, W) -> (B, dim, H, W).
    """

    def __init__(self, dim: int, scales: Sequence[int]):
        share = dim // len(scales)
        widths = [dim - share * (len(scales) - 1)] + [share] * (len(scales) - 1)
        super().__init__(
            nn.Conv2d(width, width, scale, padding=scale // 2, groups=width)
            for width, scale in zip(widths, scales, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return multiscale_depthwise_conv2d(x, [conv.weight for conv in self], [conv.bias for conv in self])


class MSFFN(nn.Module):
    """Feed-forward network with depthwise convolutions on the hidden channels, each quarter at its own scale (Fig. 5c).

    Args:
        dim: channels C.
        expansion: E; the hidden layer has E C channels.
        scales: odd kernel sizes of the hidden channel groups.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive, an even or missing scale, or more scales than hidden channels.
    """

    def __init__(self, dim: int, expansion: int = 4, scales: Sequence[int] = (1, 3, 5, 7)):
        super().__init__()
        check_positive(dim=dim, expansion=expansion)
        if not 0 < len(scales) <= dim * expansion:
            raise ValueError(f"scales must have 1 to {dim * expansion} kernel sizes, got {tuple(scales)}")
        for scale in scales:
            check_odd(scale=scale)
        hidden = dim * expansion
        self.expand = nn.Conv2d(dim, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.dwconv = MultiScaleDWConv(hidden, scales)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, dim, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        with recompute_activations(x):
            x = batch_norm(self.expand(x), self.bn1, gelu=True)
            x = batch_norm(self.dwconv(x), self.bn2, gelu=True)
            return batch_norm(self.project(x), self.bn3)
