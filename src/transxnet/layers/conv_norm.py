"""A convolution without bias and the BatchNorm that follows it."""

from torch import Tensor, nn

from transxnet.ops.recompute import batch_norm


class ConvNorm(nn.Module):
    """``BatchNorm(Conv2d(x))``; the convolution has no bias.

    Args:
        in_dim: input channels.
        out_dim: output channels.
        kernel_size: of the convolution.
        stride: of the convolution.
        padding: zero padding at each border.
        groups: of the convolution.

    Shapes:
        (B, in_dim, H, W) -> (B, out_dim, H', W'), H' and W' as in ``nn.Conv2d``.
    """

    def __init__(
        self, in_dim: int, out_dim: int, kernel_size: int = 1, stride: int = 1, padding: int = 0, groups: int = 1
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_dim, out_dim, kernel_size, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(self.conv(x), self.bn)
