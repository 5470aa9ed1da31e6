"""Average pooling and bicubic resizing whose gradients come out the same bit by bit on GPUs too.

PyTorch adds up the gradients of its own on CUDA in the order in which threads happen to arrive, and refuses to where
deterministic algorithms alone are allowed. Both are linear in each direction, so there they are two matrix products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.products import averaging


def adaptive_average(x: Tensor, size: int) -> Tensor:
    """``F.adaptive_avg_pool2d(x, size)``: (B, C, H, W) -> (B, C, size, size)."""
    return average_by_products(x, size) if _must_be_deterministic(x) else F.adaptive_avg_pool2d(x, size)


def resize_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``F.interpolate(x, size, mode="bicubic", align_corners=False)``: (B, C, H, W) -> (B, C, *size)."""
    if _must_be_deterministic(x):
        return bicubic_by_products(x, size)
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False)


def average_by_products(x: Tensor, size: int) -> Tensor:
    """The pooling as products with the (size, H) and (size, W) matrices of its windows."""
    rows, columns = (averaging(size, length, _precise(x), x.device) for length in x.shape[2:])
    return _products(x, rows, columns)


def bicubic_by_products(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The resizing as products with the (H', H) and (W', W) matrices of its kernel."""
    identities = (torch.eye(old, dtype=_precise(x), device=x.device)[None, None] for old in x.shape[2:])
    rows, columns = (
        F.interpolate(identity, size=(new, identity.shape[3]), mode="bicubic", align_corners=False)[0, 0]
        for identity, new in zip(identities, size, strict=True)
    )
    return _products(x, rows, columns)


def _products(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # half-precision weights would not add up to 1
        return (rows @ x.to(rows.dtype) @ columns.T).to(x.dtype)


def _precise(x: Tensor) -> torch.dtype:
    """The type of the matrices."""
    return x.dtype if x.dtype == torch.float64 else torch.float32


def _must_be_deterministic(x: Tensor) -> bool:
    return x.is_cuda and torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled()
