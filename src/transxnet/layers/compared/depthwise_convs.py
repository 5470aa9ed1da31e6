"""Alternatives to IDConv (Table VII): depthwise convolutions with static, mixed or generated kernels."""

import torch
from torch import Tensor, nn

from transxnet.layers.checks import check_odd, check_positive
from transxnet.layers.conv_norm import ConvNorm
from transxnet.ops import dynamic_depthwise_conv2d, multiscale_depthwise_conv2d


class DWConv(nn.Module):
    """Depthwise convolution with static kernels.

    Args:
        dim: channels C.
        kernel_size: K, odd.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: a dim that is not positive, or an even kernel_size.
    """

    def __init__(self, dim: int, kernel_size: int = 7):
        super().__init__()
        check_positive(dim=dim)
        check_odd(kernel_size=kernel_size)
        self.dwconv = nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return multiscale_depthwise_conv2d(x, [self.dwconv.weight], [self.dwconv.bias], identity=False)


class DyConv(nn.Module):
    """Dynamic depthwise convolution: the input determines the weight of each kernel of a bank.

    Source: Chen et al., "Dynamic convolution: attention over convolution kernels", CVPR 2020. The global mean goes
    through two linear layers with a ReLU between them, the first with C / r outputs, and a softmax with a temperature
    over the kernels; kernels and biases are summed with these weights. IDConv has a weight for each channel and
    position of a kernel, DyConv one for a whole kernel (Sec. III-B1).

    TransXNet's paper does not give the number of kernels in the bank for Table VII. Our networks use IDConv's number of
    groups, 2 in T. This agrees with "a scalar attention weight for each attention group" and "a slight increase in
    Params" of IDConv over DyConv; with DyConv's original four, IDConv would have fewer parameters. The temperature is
    constant 1: DyConv's paper anneals it from 30 in the first epochs, which Table VII does not mention.

    Args:
        dim: channels C.
        kernel_size: K, odd.
        num_kernels: kernels in the bank, at least 2.
        reduction_ratio: r.
        temperature: divisor of the logits before the softmax.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: an argument outside these ranges.
    """

    def __init__(
        self,
        dim: int,
        kernel_size: int = 7,
        num_kernels: int = 4,
        reduction_ratio: int = 4,
        temperature: float = 1.0,
    ):
        super().__init__()
        check_positive(dim=dim, num_kernels=num_kernels, reduction_ratio=reduction_ratio)
        check_odd(kernel_size=kernel_size)
        check_reduction(dim, reduction_ratio)
        if num_kernels < 2:
            raise ValueError(
                "num_kernels must be at least 2, since a single kernel does not depend on the input, got 1"
            )
        if not temperature > 0:
            raise ValueError(f"temperature must be greater than 0, got {temperature!r}")
        self.temperature = temperature
        self.weight = nn.Parameter(torch.empty(num_kernels, dim, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(num_kernels, dim))
        self.squeeze = nn.Conv2d(dim, dim // reduction_ratio, 1, bias=False)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(dim // reduction_ratio, num_kernels, 1)
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.trunc_normal_(self.bias, std=0.02)

    def attention(self, x: Tensor) -> Tensor:
        """Compute each kernel's weight: (B, C, H, W) -> (B, num_kernels), sums to 1."""
        logits = self.expand(self.act(self.squeeze(x.mean((2, 3), keepdim=True)))).flatten(1)
        return (logits / self.temperature).softmax(dim=1)

    def kernels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Generate the kernels and biases for this input: (B, C, H, W) -> (B, C, K, K) and (B, C)."""
        shares = self.attention(x)
        weight = (shares[:, :, None, None, None] * self.weight).sum(dim=1)
        return weight, (shares[:, :, None] * self.bias).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return dynamic_depthwise_conv2d(x, *self.kernels(x))


class DDWConv(nn.Module):
    """Dynamic depthwise convolution (D-DWConv): a small network generates the kernels, without a bank.

    Source: Han et al., "On the connection between local attention and dynamic depth-wise convolution", ICLR 2022:
    global mean, 1x1 convolution to C / r without bias, BatchNorm, ReLU, 1x1 convolution to C K^2. The convolution's
    bias is static. The two 1x1 convolutions have C^2 / r (K^2 + 1) weights, 12.5 C^2 at r = 4 and K = 7 (Sec. III-B1).

    Args:
        dim: channels C.
        kernel_size: K, odd.
        reduction_ratio: r.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: an argument outside these ranges.

    Note:
        The BatchNorm sees one value per channel for each sample, so training needs a batch size of at least two.
    """

    def __init__(self, dim: int, kernel_size: int = 7, reduction_ratio: int = 4):
        super().__init__()
        check_positive(dim=dim, reduction_ratio=reduction_ratio)
        check_odd(kernel_size=kernel_size)
        check_reduction(dim, reduction_ratio)
        self.kernel_size = kernel_size
        self.squeeze = ConvNorm(dim, dim // reduction_ratio)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(dim // reduction_ratio, dim * kernel_size**2, 1)
        self.bias = nn.Parameter(torch.zeros(dim))

    def kernels(self, x: Tensor) -> Tensor:
        """Generate the kernels for this input: (B, C, H, W) -> (B, C, K, K)."""
        flat = self.expand(self.act(self.squeeze(x.mean((2, 3), keepdim=True)))).flatten(1)
        return flat.unflatten(1, (len(self.bias), self.kernel_size, self.kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        return dynamic_depthwise_conv2d(x, self.kernels(x), self.bias.expand(x.shape[0], -1))


def check_reduction(dim: int, reduction_ratio: int) -> None:
    """Raise ValueError if the squeeze would leave no channels."""
    if dim < reduction_ratio:
        raise ValueError(f"dim={dim} must be at least reduction_ratio={reduction_ratio}")
