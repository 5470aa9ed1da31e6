"""Depthwise convolution with a stride: the overlapping spatial reduction of keys and values (Sec. III-B2)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.autocast import cast_to_autocast
from transxnet.ops.backend import takes_c_kernel
from transxnet.ops.depthwise_cpu import depthwise_c
from transxnet.ops.fx_leaf import fx_leaf


def strided_depthwise_conv2d_reference(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The definition in plain PyTorch."""
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=weight.shape[0])


@fx_leaf(scripted=strided_depthwise_conv2d_reference)
def strided_depthwise_conv2d(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Depthwise convolution with a stride, without bias, padded by half of the kernel.

    With gradients, a C kernel computes it on CPUs: in bfloat16, oneDNN's gradients take 70 times the forward pass.

    Args:
        x: (B, C, H, W), any strides.
        weight: (C, 1, K, K).
        stride: s.

    Returns:
        (B, C, ceil(H / s), ceil(W / s)) for odd K, in the dtype of x, or of autocast if enabled.
    """
    x = cast_to_autocast(x)
    if torch.is_grad_enabled() and weight.shape[-1] % 2 == 1 and takes_c_kernel("strided_depthwise_conv2d", x):
        return depthwise_c(x, [weight.movedim(1, 0)], [], stride=stride)
    return strided_depthwise_conv2d_reference(x, weight.to(x.dtype), stride)
