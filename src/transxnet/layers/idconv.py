"""Input-dependent depthwise convolution (Sec. III-B1, Fig. 4b)."""

import torch
from torch import Tensor, nn

from transxnet.layers.checks import check_odd, check_positive
from transxnet.layers.conv_norm import ConvNorm
from transxnet.ops import adaptive_avg_pool2d, dynamic_depthwise_conv2d


class IDConv(nn.Module):
    """A depthwise convolution with kernels mixed from a bank, depending on the input (Eq. 3).

    The input pooled to K x K goes through a squeeze-and-expand projection and a softmax over the groups, which gives
    each position of the kernel its own mixture of the bank. The bias is mixed in the same way, by the same projection,
    from the global mean.

    Args:
        dim: channels C.
        kernel_size: K, odd.
        num_groups: G, the kernels in the bank; at least 2, since a softmax over one is constant.
        reduction_ratio: r, squeeze ratio of the projection.

    Shapes:
        (B, C, H, W) -> (B, C, H, W).

    Raises:
        ValueError: an argument outside these ranges.

    Note:
        In training the projection's BatchNorm sees two batches in each forward pass, first the K x K pooled input, then
        the 1 x 1 mean. The second has B values per channel, so training needs a batch size of at least two: one value
        has no variance.
    """

    def __init__(self, dim: int, kernel_size: int = 7, num_groups: int = 2, reduction_ratio: int = 4):
        super().__init__()
        check_positive(dim=dim, num_groups=num_groups, reduction_ratio=reduction_ratio)
        check_odd(kernel_size=kernel_size)
        if num_groups < 2:
            raise ValueError("num_groups must be at least 2, since a single kernel does not depend on the input, got 1")
        if dim < reduction_ratio:
            raise ValueError(f"dim={dim} must be at least reduction_ratio={reduction_ratio}")
        self.dim, self.kernel_size, self.num_groups = dim, kernel_size, num_groups
        self.weight = nn.Parameter(torch.empty(num_groups, dim, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(num_groups, dim))
        self.squeeze = ConvNorm(dim, dim // reduction_ratio)
        self.act = nn.GELU()
        self.expand = nn.Conv2d(dim // reduction_ratio, num_groups * dim, 1)
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.trunc_normal_(self.bias, std=0.02)

    def attention(self, pooled: Tensor) -> Tensor:
        """Compute each group's weight: (B, C, k, k) -> (B, G, C, k, k), sums to 1 over G."""
        logits = self.expand(self.act(self.squeeze(pooled)))
        return logits.unflatten(1, (self.num_groups, self.dim)).softmax(dim=1)

    def kernels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Generate the kernels and biases for this input: (B, C, H, W) -> (B, C, K, K) and (B, C)."""
        weight = (self.attention(adaptive_avg_pool2d(x, self.kernel_size)) * self.weight).sum(dim=1)
        bias = (self.attention(x.mean((2, 3), keepdim=True)).flatten(2) * self.bias).sum(dim=1)
        return weight, bias

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.kernels(x)
        return dynamic_depthwise_conv2d(x, weight, bias)
