"""Adaptive average pooling and bicubic resizing in exportable forms, and with deterministic gradients on GPUs.

ONNX supports adaptive pooling to a single position only. On CUDA, PyTorch accumulates the gradients of both operators
in a nondeterministic order, and raises an error if only deterministic algorithms are allowed. Both are separable linear
maps, so in these cases they are computed as two matrix products.

Shapes: B batch, C channels, H x W positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.fx_leaf import fx_leaf


@fx_leaf(scripted=F.adaptive_avg_pool2d)
def adaptive_avg_pool2d(x: Tensor, size: int) -> Tensor:
    """``F.adaptive_avg_pool2d``; in an exported program with operators that every format supports.

    Args:
        x: (B, C, H, W).
        size: side of the output.

    Returns:
        (B, C, size, size).
    """
    if torch.compiler.is_exporting():
        return adaptive_avg_pool2d_export(x, size)
    return adaptive_avg_pool2d_deterministic(x, size) if _must_be_deterministic(x) else F.adaptive_avg_pool2d(x, size)


def adaptive_avg_pool2d_export(x: Tensor, size: int) -> Tensor:
    """Variant for exported programs: average pooling if all windows are equal, else two matrix products."""
    height, width = x.shape[2:]
    if not (isinstance(height, int) and isinstance(width, int)) or height % size or width % size:
        rows, columns = (averaging_matrix(size, length, x.dtype, x.device) for length in (height, width))
        return rows @ x @ columns.transpose(0, 1)
    return x if height == width == size else F.avg_pool2d(x, (height // size, width // size))


def adaptive_avg_pool2d_deterministic(x: Tensor, size: int) -> Tensor:
    """Variant with deterministic gradients: products with the (size, H) and (size, W) matrices of its windows."""
    rows, columns = (averaging_matrix(size, length, _matrix_dtype(x), x.device) for length in x.shape[2:])
    return _multiply(x, rows, columns)


def averaging_matrix(size: int, length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (size, length) that averages ``length`` positions into the ``size`` windows of adaptive pooling."""
    window = torch.arange(size, device=device)
    start, end = window * length // size, ((window + 1) * length + size - 1) // size
    place = torch.arange(length, device=device)
    inside = (place >= start[:, None]) & (place < end[:, None])
    return inside.to(dtype) / (end - start)[:, None].to(dtype)


def resize_bicubic_reference(x: Tensor, size: tuple[int, int]) -> Tensor:
    """PyTorch's bicubic resizing."""
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False)


def resize_bicubic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``F.interpolate(x, size, mode="bicubic", align_corners=False)``: (B, C, H, W) -> (B, C, *size)."""
    return resize_bicubic_deterministic(x, size) if _must_be_deterministic(x) else resize_bicubic_reference(x, size)


def resize_bicubic_deterministic(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Variant with deterministic gradients: products with the (H', H) and (W', W) matrices of its kernel."""
    identities = (torch.eye(old, dtype=_matrix_dtype(x), device=x.device)[None, None] for old in x.shape[2:])
    rows, columns = (
        resize_bicubic_reference(identity, (new, identity.shape[3]))[0, 0]
        for identity, new in zip(identities, size, strict=True)
    )
    return _multiply(x, rows, columns)


def _multiply(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):  # half-precision weights would not sum to 1
        return (rows @ x.to(rows.dtype) @ columns.T).to(x.dtype)


def _matrix_dtype(x: Tensor) -> torch.dtype:
    return x.dtype if x.dtype == torch.float64 else torch.float32


def _must_be_deterministic(x: Tensor) -> bool:
    return x.is_cuda and torch.is_grad_enabled() and torch.are_deterministic_algorithms_enabled()
