"""Sep Conv (Tables VI and XII): a separable convolution in an inverted bottleneck."""

import torch
from torch import Tensor, nn

from transxnet.layers.checks import check_odd, check_positive
from transxnet.ops import multiscale_depthwise_conv2d


class StarReLU(nn.Module):
    """``scale * relu(x)^2 + bias`` with two learnable scalars. Shapes: any -> the same."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        # Cast to the input's dtype, so that half precision is kept under autocast.
        return self.scale.to(x.dtype) * x.relu().square() + self.bias.to(x.dtype)


class SepConv(nn.Module):
    """Inverted separable convolution: expand, depthwise convolution, project.

    Source: Yu et al., "MetaFormer baselines for vision", TPAMI 2024, the token mixer of ConvFormer: 1x1 to twice the
    channels, StarReLU, depthwise 7x7, 1x1 back, all without bias. TransXNet's paper names Xception as the source of its
    "Sep Conv"; this is the form that later backbones use as a token mixer, and 7x7 is the kernel size of all other
    token mixers in the comparison.

    Args:
        dim: channels C.
        kernel_size: of the depthwise convolution, odd.
        expansion: expansion ratio of the channels.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a size that is not positive, or an even kernel_size.
    """

    def __init__(self, dim: int, kernel_size: int = 7, expansion: int = 2):
        super().__init__()
        check_positive(dim=dim, expansion=expansion)
        check_odd(kernel_size=kernel_size)
        hidden = dim * expansion
        self.expand = nn.Conv2d(dim, hidden, 1, bias=False)
        self.act = StarReLU()
        self.dwconv = nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden, bias=False)
        self.project = nn.Conv2d(hidden, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.expand(x))
        weight = self.dwconv.weight
        x = multiscale_depthwise_conv2d(x, [weight], [weight.new_zeros(len(weight))], identity=False)
        return self.project(x)
