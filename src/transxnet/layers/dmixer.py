"""Dual dynamic token mixer (Sec. III-B, Fig. 4a) and the squeezed token enhancer that ends it (Fig. 4d)."""

import torch
from torch import Tensor, nn

from transxnet.layers.checks import check_divisible, check_positive
from transxnet.layers.idconv import IDConv
from transxnet.layers.osra import OSRA
from transxnet.ops import multiscale_depthwise_conv2d


class STE(nn.Module):
    """Squeezed token enhancer: cheap exchange between positions and channels, plus the input (Eq. 5).

    Args:
        dim: channels C.
        reduction_ratio: r, by which the channels are squeezed.
        min_dim: the squeezed channels never fall below this.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive.
    """

    def __init__(self, dim: int, reduction_ratio: int = 8, min_dim: int = 16):
        super().__init__()
        check_positive(dim=dim, reduction_ratio=reduction_ratio, min_dim=min_dim)
        squeezed = max(min_dim, dim // reduction_ratio)
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.bn1 = nn.BatchNorm2d(dim)
        self.squeeze = nn.Conv2d(dim, squeezed, 1)
        self.bn2 = nn.BatchNorm2d(squeezed)
        self.expand = nn.Conv2d(squeezed, dim, 1)
        self.bn3 = nn.BatchNorm2d(dim)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        y = multiscale_depthwise_conv2d(x, [self.dwconv.weight], [self.dwconv.bias], identity=False)
        y = self.bn1(self.act(y))
        y = self.bn2(self.act(self.squeeze(y)))
        return x + self.bn3(self.expand(y))


class DMixer(nn.Module):
    """IDConv on half of the channels, OSRA on the other half, and STE over both (Eq. 2).

    The first half goes to IDConv, the second to OSRA, as the published weights have it; the paper's Eq. 2 names them
    the other way round.

    Args:
        dim: channels C, even.
        num_heads: heads of OSRA, dividing C / 2.
        sr_ratio: stride of OSRA's reduction.
        kernel_size: side of IDConv's kernels, odd.
        num_groups: kernels in IDConv's bank.

    Shapes:
        x (B, C, H, W), pos_bias as in :class:`OSRA` or None -> (B, C, H, W).

    Raises:
        ValueError: an odd dim, or what IDConv and OSRA refuse.
    """

    def __init__(self, dim: int, num_heads: int = 1, sr_ratio: int = 1, kernel_size: int = 7, num_groups: int = 2):
        super().__init__()
        check_positive(dim=dim)
        check_divisible("dim", dim, "the number of branches", 2)
        self.idconv = IDConv(dim // 2, kernel_size, num_groups)
        self.osra = OSRA(dim // 2, num_heads, sr_ratio)
        self.ste = STE(dim)

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        local, distant = x.chunk(2, dim=1)
        return self.ste(torch.cat([self.idconv(local), self.osra(distant, pos_bias)], dim=1))
