"""Dynamic position encoding (Eq. 1)."""

from torch import Tensor, nn

from transxnet.layers.checks import check_odd, check_positive
from transxnet.ops import multiscale_depthwise_conv2d


class DPE(nn.Module):
    """Dynamic position encoding, a residual depthwise convolution: ``x + DWConv(x)`` (Eq. 1).

    Args:
        dim: channels.
        kernel_size: side of the kernel, odd.

    Shapes:
        (B, dim, H, W) -> (B, dim, H, W).

    Raises:
        ValueError: a dim that is not positive, or an even kernel_size.
    """

    def __init__(self, dim: int, kernel_size: int = 7):
        super().__init__()
        check_positive(dim=dim)
        check_odd(kernel_size=kernel_size)
        self.dwconv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return multiscale_depthwise_conv2d(x, [self.dwconv.weight], [self.dwconv.bias])
