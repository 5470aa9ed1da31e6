"""Fold norms, scales and identities into the weights of convolutions.

Computed in float64 and rounded once, when the result is cast back to the convolution's dtype.
"""

import copy

import torch
from torch import Tensor, nn

from transxnet.layers.conv_norm import ConvNorm


def exact(tensor: Tensor) -> Tensor:
    """A detached copy in float64."""
    return tensor.detach().to(torch.float64, copy=True)


def scale_and_shift(norm: nn.BatchNorm2d | nn.GroupNorm) -> tuple[Tensor, Tensor]:
    """Per-channel scale and shift of a norm: (dim,) each, float64.

    For a BatchNorm in evaluation mode this is the whole norm; for a GroupNorm it is the part after normalization.
    """
    scale, shift = exact(norm.weight), exact(norm.bias)
    if isinstance(norm, nn.BatchNorm2d):
        scale /= (exact(norm.running_var) + norm.eps).sqrt()
        shift -= exact(norm.running_mean) * scale
    return scale, shift


def weight_and_bias(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """A convolution's weight and bias, float64; a missing bias is zero."""
    weight = exact(conv.weight)
    return weight, weight.new_zeros(len(weight)) if conv.bias is None else exact(conv.bias)


def with_identity(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Weight and bias, float64, of ``x + conv(x)``, for a depthwise convolution that keeps the size."""
    weight, bias = weight_and_bias(conv)
    weight[:, :, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] += 1
    return weight, bias


def with_weight(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """Create a convolution with another weight and bias, in its own precision."""
    conv = copy.deepcopy(conv)
    conv.weight, conv.bias = nn.Parameter(weight.to(conv.weight)), nn.Parameter(bias.to(conv.weight))
    return conv


def scale_output(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """Fold ``conv(x) * scale + shift`` into one convolution."""
    weight, bias = weight_and_bias(conv)
    return with_weight(conv, weight * scale[:, None, None, None], bias * scale + shift)


def scale_input(conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> nn.Conv2d:
    """Fold ``conv(x * scale + shift)`` into one convolution, for a 1x1 convolution with one group."""
    weight, bias = weight_and_bias(conv)
    return with_weight(conv, weight * scale[:, None, None], bias + weight[:, :, 0, 0] @ shift)


def fold_norm(layer: ConvNorm) -> nn.Conv2d:
    """Fold a convolution and the BatchNorm that follows it into one convolution."""
    return scale_output(layer.conv, *scale_and_shift(layer.bn))


def fold_identity(conv: nn.Conv2d) -> nn.Conv2d:
    """Fold ``x + conv(x)`` into one convolution, for a depthwise convolution that keeps the size."""
    return with_weight(conv, *with_identity(conv))


def halves_apart(conv: nn.Conv2d) -> nn.Conv2d:
    """One convolution for the first half of the outputs minus the second half."""
    (weight, other_weight), (bias, other_bias) = (values.chunk(2) for values in weight_and_bias(conv))
    narrow = nn.Conv2d(conv.in_channels, conv.out_channels // 2, conv.kernel_size).to(conv.weight)
    return with_weight(narrow, weight - other_weight, bias - other_bias)
