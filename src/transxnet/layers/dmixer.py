"""Dual dynamic token mixer (Sec. III-B, Fig. 4a) and squeezed token enhancer (Fig. 4d)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transxnet.layers.checks import check_attn_ratio, check_divisible, check_positive, is_custom_part, resolve_part
from transxnet.layers.idconv import IDConv
from transxnet.layers.osra import OSRA
from transxnet.ops import multiscale_depthwise_conv2d
from transxnet.ops.recompute import add, batch_norm, recompute_activations


class STE(nn.Module):
    """Squeezed token enhancer: cheap exchange between positions and channels, plus the input (Eq. 5).

    Args:
        dim: channels C.
        reduction_ratio: r, squeeze ratio of the channels.
        min_dim: minimum number of squeezed channels.

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

    def forward(self, x: Tensor) -> Tensor:
        with recompute_activations(x):
            y = multiscale_depthwise_conv2d(x, [self.dwconv.weight], [self.dwconv.bias], identity=False)
            y = self.squeeze(batch_norm(y, self.bn1, gelu=True))
            y = self.expand(batch_norm(y, self.bn2, gelu=True))
            return add(x, batch_norm(y, self.bn3))


LOCAL_CONVS: dict[str | None, Callable[[int, int, int, int], nn.Module]] = {
    "idconv": lambda dim, kernel_size, num_groups, num_heads: IDConv(dim, kernel_size, num_groups),
}
"""Values of the option ``local_conv``. :mod:`transxnet.layers.compared` adds those of Table VII."""
TOKEN_ENHANCERS: dict[str | None, Callable[[int], nn.Module]] = {
    "ste": STE,
    "conv1x1": lambda dim: nn.Conv2d(dim, dim, 1),
    "none": lambda dim: nn.Identity(),
    None: lambda dim: nn.Identity(),
}
"""Values of the option ``token_enhancer`` (Table X)."""


class DMixer(nn.Module):
    """IDConv on half of the channels, OSRA on the other half, and STE over both (Eq. 2).

    The first half goes to IDConv and the second to OSRA, as in the published weights; the paper's Eq. 2 has the
    opposite order. Other parts can replace them (Tables VII, IX and X). The attributes remain ``idconv``, ``osra`` and
    ``ste``, so that analyses find them, and shared parts have the same name in all checkpoints.

    Args:
        dim: channels C, even.
        num_heads: heads of OSRA, dividing its channels.
        sr_ratio: stride of OSRA's reduction.
        kernel_size: side of IDConv's kernels, odd.
        num_groups: kernels in IDConv's bank.
        local_conv: "idconv", "dwconv", "window", "dyconv", "d_dwconv", or a class, called with (dim, kernel_size),
            that keeps the shape. Windows have the side of the kernels and OSRA's heads, DyConv's bank has num_groups.
        attn_ratio: fraction of the channels for OSRA, between 0 and 1. With 1/2 the dim must be even, otherwise the
            heads must divide OSRA's channels.
        spatial_reduction: "overlapping", "non_overlapping", or a class as in :class:`OSRA`.
        token_enhancer: "ste"; "conv1x1", a 1x1 convolution with bias and without residual, as in other token mixers;
            "none" or None; or a class, called with (dim), that keeps the shape.

    Shapes:
        x (B, C, H, W), pos_bias as in :class:`OSRA` or None -> (B, C, H, W).

    Raises:
        ValueError: an odd dim, or an argument that the parts reject.
        UserError: another local_conv, attn_ratio, spatial_reduction or token_enhancer.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 1,
        sr_ratio: int = 1,
        kernel_size: int = 7,
        num_groups: int = 2,
        local_conv: str | Callable = "idconv",
        attn_ratio: float = 0.5,
        spatial_reduction: str | Callable = "overlapping",
        token_enhancer: str | Callable | None = "ste",
    ):
        super().__init__()
        check_positive(dim=dim, num_heads=num_heads)
        if attn_ratio == 0.5:  # the error should then name the dim
            check_divisible("dim", dim, "the number of branches", 2)
        else:
            check_attn_ratio(attn_ratio, [(dim, num_heads)])
        distant = round(dim * attn_ratio)
        self.widths = [dim - distant, distant]
        make_conv = resolve_part("local_conv", local_conv, LOCAL_CONVS, "dim, kernel_size")
        custom = is_custom_part(local_conv)
        self.idconv = make_conv(dim - distant, kernel_size, *(() if custom else (num_groups, num_heads)))
        self.osra = OSRA(distant, num_heads, sr_ratio, spatial_reduction)
        self.ste = resolve_part("token_enhancer", token_enhancer, TOKEN_ENHANCERS, "dim")(dim)

    def forward(self, x: Tensor, pos_bias: Tensor | None = None) -> Tensor:
        local, distant = x.split(self.widths, dim=1)
        return self.ste(torch.cat([self.idconv(local), self.osra(distant, pos_bias)], dim=1))
