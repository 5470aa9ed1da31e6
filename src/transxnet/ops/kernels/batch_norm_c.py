"""Python calls of the C kernels in ``batch_norm.c``, for float32 and bfloat16 on CPUs.

Shapes: x (B, C, H, W), contiguous with channels last; mean, variance, weight and bias (C,), float32 and contiguous.
"""

import ctypes
from typing import Any

import torch
from torch import Tensor

from transxnet.ops.kernels.c_library import load_library


def statistics(x: Tensor, *, gelu: bool) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance of each channel of x, or of GELU(x)."""
    mean, variance = (x.new_empty(x.shape[1], dtype=torch.float32) for _ in range(2))
    _call("transxnet_batch_norm_statistics", x, x, mean, variance, gelu=gelu)
    return mean, variance


def normalize(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, *, eps: float, gelu: bool
) -> Tensor:
    """Normalize x, or GELU(x), with given statistics."""
    out = torch.empty_like(x)
    _call("transxnet_batch_norm_normalize", x, x, mean, variance, weight, bias, eps, out, gelu=gelu)
    return out


def backward(
    g: Tensor, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, *, eps: float, gelu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x, weight and bias, through the statistics, from the gradient g of the output."""
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    _call("transxnet_batch_norm_backward", x, g, x, mean, variance, weight, eps, dx, dweight, dbias, gelu=gelu)
    return dx, dweight, dbias


def _call(name: str, x: Tensor, *arguments: Any, gelu: bool) -> None:
    library = load_library()
    assert library is not None
    pixels, channels = x.numel() // x.shape[1], x.shape[1]
    getattr(library, name)(
        ctypes.c_int64(pixels),
        ctypes.c_int64(channels),
        *(
            ctypes.c_void_p(argument.data_ptr()) if isinstance(argument, Tensor) else ctypes.c_double(argument)
            for argument in arguments
        ),
        *map(ctypes.c_int, (torch.get_num_threads(), gelu, x.dtype == torch.bfloat16)),
    )
