"""Python calls of the C kernels in ``depthwise.c``, for float32 and bfloat16 on CPUs.

Shapes: x (B, C, H, W) with any strides; for each group of channels a weight (G, C_i, K_i, K_i) and a bias (G, C_i),
both float32 and contiguous. G = B for kernels of each sample, G = 1 for shared kernels.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from transxnet.ops.kernels.c_library import load_library

DTYPES = (torch.float32, torch.bfloat16)


class _Map(ctypes.Structure):
    """A tensor (B, C, H, W) and its strides, as the C code takes it."""

    _fields_ = (("data", ctypes.c_void_p), *((name, ctypes.c_int64) for name in ("sb", "sc", "sh", "sw")))


def depthwise(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    stride: int = 1,
    identity: bool = False,
    flip: bool = False,
) -> Tensor:
    """Depthwise convolutions, each on its own group of channels, plus the input with ``identity``.

    Args:
        x: the input, or with ``flip`` the gradient of the output.
        weights: kernel of each group.
        biases: bias of each group, or none at all.
        stride: of the convolution.
        identity: add x; at stride 1 only.
        flip: rotate the kernels by 180 degrees: the gradient of the input at stride 1.

    Returns:
        (B, C, ceil(H / stride), ceil(W / stride)).
    """
    out = empty_output(x, stride)
    _call("transxnet_depthwise", x, out, weights, weights, biases, stride, flip, identity)
    return out


def empty_output(x: Tensor, stride: int) -> Tensor:
    """Return an uninitialized output of a convolution of x, in its layout."""
    if stride == 1:
        return torch.empty_like(x)
    B, C, H, W = x.shape
    layout = torch.channels_last if x.stride(1) == 1 and C > 1 else torch.contiguous_format
    shape = (B, C, -(-H // stride), -(-W // stride))
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def input_gradient(g: Tensor, x: Tensor, weights: Sequence[Tensor], *, stride: int, identity: bool) -> Tensor:
    """The gradient of the input, with the strides of x, from the gradient of the output."""
    if stride == 1:
        return depthwise(g, weights, [], identity=identity, flip=True)
    dx = torch.empty_like(x)
    _call("transxnet_depthwise_input_gradient", dx, g, weights, weights, [], stride)
    return dx


def weight_gradient(
    x: Tensor, g: Tensor, weights: Sequence[Tensor], *, stride: int = 1
) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of the kernels and biases in float32, from the input and the gradient of the output."""
    dws = [torch.empty_like(weight) for weight in weights]
    dbs = [weight.new_empty(weight.shape[:2]) for weight in weights]
    _call("transxnet_depthwise_weight_gradient", x, g, weights, dws, dbs, stride)
    return dws, dbs


def _call(
    name: str,
    x: Tensor,
    other: Tensor,
    like: Sequence[Tensor],
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *flags: int,
) -> None:
    """Call a kernel with two maps, x of the size of the input, and weights of the shapes of ``like``."""
    library = load_library()
    assert library is not None
    B, _, H, W = x.shape
    per_sample = like[0].shape[0] != 1
    maps = [_Map(t.data_ptr(), *t.stride()) for t in (x, other)]
    sizes = [(ctypes.c_int64 * len(like))(*(w.shape[i] for w in like)) for i in (1, 3)]
    pointers = [
        (ctypes.c_void_p * len(like))(*(t.data_ptr() for t in group)) if group else None for group in (weights, biases)
    ]
    getattr(library, name)(
        *map(ctypes.c_int64, (B, H, W)),
        ctypes.c_int(len(like)),
        *sizes,
        *map(ctypes.byref, maps),
        *pointers,
        ctypes.c_int(torch.get_num_threads()),
        *(ctypes.c_int(flag) for flag in (per_sample, *flags, x.dtype == torch.bfloat16)),
    )
