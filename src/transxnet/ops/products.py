"""What exported programs compute with matrix products, since their formats have no operator that fits.

A convolution of an exported program has a fixed number of groups, so it cannot give every sample of a batch kernels of
its own if the batch may have any size. And of adaptive pooling ONNX knows only that to one place.

Shapes: B batch, C channels, H x W positions, K kernel size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def dynamic_depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As in :mod:`transxnet.ops.reference`, one product for each sample and channel.

    The K rows of the padded input that an output row needs are laid end to end, (H, K (W + K - 1)), and multiplied by a
    band matrix of the kernel, (K (W + K - 1), W). That takes (W + K - 1) / K times the multiplications of the
    convolution and K times the memory of the input.
    """
    B, C, H, W = x.shape
    K = weight.shape[-1]
    width = W + K - 1
    taps = K * width
    kernel = F.pad(weight, (0, width - K)).flatten(2)
    # Copies of a row that is one longer than the matrix is wide move on by one place from line to line.
    band = F.pad(kernel, (0, 1))[:, :, None].expand(B, C, W, taps + 1).reshape(B, C, W * (taps + 1))
    band = band[..., : W * taps].reshape(B, C, W, taps)
    padded = F.pad(x, (K // 2,) * 4)
    rows = torch.cat([padded[:, :, i : i + H] for i in range(K)], dim=3)
    out = rows @ band.transpose(2, 3)
    return out if bias is None else out + bias[:, :, None, None]


def adaptive_avg_pool2d(x: Tensor, size: int) -> Tensor:
    """``F.adaptive_avg_pool2d``: (B, C, H, W) -> (B, C, size, size)."""
    height, width = x.shape[2:]
    return averaging(size, height, x.dtype, x.device) @ x @ averaging(size, width, x.dtype, x.device).transpose(0, 1)


def averaging(size: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (size, length) that averages ``length`` places into ``size``, as adaptive pooling shares them out."""
    part = torch.arange(size, device=device)
    start, end = part * length // size, ((part + 1) * length + size - 1) // size
    place = torch.arange(length, device=device)
    inside = (place >= start[:, None]) & (place < end[:, None])
    return inside.to(dtype) / (end - start)[:, None].to(dtype)
