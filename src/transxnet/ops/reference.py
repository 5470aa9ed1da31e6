"""The hot functions of TransXNet in plain PyTorch: the truth that any faster version is held to.

Shapes: B batch, C channels, H x W positions, h heads, d channels a head, N queries, M keys, K kernel size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution in which every sample brings its own kernels (Sec. III-B1), stride 1, same size.

    Args:
        x: (B, C, H, W).
        weight: (B, C, K, K), K odd.
        bias: (B, C) or None.

    Returns:
        (B, C, H, W), ``out[b, c] = conv2d(x[b, c], weight[b, c]) + bias[b, c]`` with zero padding.
    """
    B, C, H, W = x.shape
    K = weight.shape[-1]
    if B == 0:  # a convolution cannot have no groups
        return x.clone()
    out = F.conv2d(
        x.reshape(1, B * C, H, W),
        weight.reshape(B * C, 1, K, K),
        None if bias is None else bias.reshape(B * C),
        padding=K // 2,
        groups=B * C,
    )
    return out.reshape(B, C, H, W)


def multiscale_depthwise_conv2d(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], *, identity: bool = True, gelu: bool = False
) -> Tensor:
    """Depthwise convolutions of several kernel sizes, each on its own group of channels, plus the input (Fig. 5c).

    Args:
        x: (B, C, H, W).
        weights: a (C_i, 1, K_i, K_i) for each group in channel order, K_i odd, the C_i adding up to C.
        biases: a (C_i,) for each group.
        identity: add x.
        gelu: end in a GELU.

    Returns:
        (B, C, H, W): ``x + concat_i(conv2d(x_i, weights[i], biases[i]))`` with zero padding.
    """
    groups = x.split([w.shape[0] for w in weights], dim=1)
    branches = [
        F.conv2d(group, w, b, padding=w.shape[-1] // 2, groups=w.shape[0])
        for group, w, b in zip(groups, weights, biases, strict=True)
    ]
    out = branches[0] if len(branches) == 1 else torch.cat(branches, dim=1)
    if identity:
        out = x + out
    return F.gelu(out) if gelu else out


def biased_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of all positions to a reduced set of keys, with a position bias shared by the batch (Eq. 4).

    Args:
        q: (B, h, N, d).
        k: (B, h, M, d).
        v: (B, h, M, d).
        bias: (1, h, N, M) or None.

    Returns:
        (B, h, N, d): ``softmax(q k^T / sqrt(d) + bias) v``.
    """
    if bias is not None:
        bias = bias.to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
