"""Resize an image in a traced module, as Pillow does.

Resizing is two matrix products with weights that are computed from the size of the image. It is the same in every
runtime, while the runtimes' own operators differ from Pillow and from each other.
"""

import torch
from torch import Tensor

SUPPORT = {"bilinear": 1, "bicubic": 2}
"""Interpolations, and the number of pixels at each side that they use when enlarging."""

BASE = 2**11
"""Pillow's weights are integers in units of 1 / BASE². As two digits of this base, their sums are exact in float32."""

Weights = tuple[Tensor, Tensor]
"""The two digits of weights, the high one first."""


def antialiased_weights(places: Tensor, fitted: Tensor, positions: Tensor, own: Tensor, interpolation: str) -> Weights:
    """Compute the weights (P, N) with which Pillow resizes an axis.

    Exact for "bilinear" even in runtimes that compute in float32 only.

    Args:
        places: (N,) positions of the pixels; those below 0 or from ``own`` are not used.
        fitted: size of the resized axis.
        positions: (P,) positions on it.
        own: size of the axis.
        interpolation: "bilinear" or "bicubic".

    Source:
        Pillow, ``precompute_coeffs`` and ``normalize_coeffs_8bpc`` in src/libImaging/Resample.c.
    """
    # Distances are integers in units of 1 / (2 * fitted): the center of a position is at (2 * position + 1) * own.
    centers, pixel = ((2 * positions + 1) * own).long(), (2 * fitted).long()
    distances = ((places - (centers // pixel)[:, None]) * pixel + fitted - (centers % pixel)[:, None]).abs()
    reach = 2 * torch.maximum(own, fitted)
    if interpolation == "bilinear":
        kernel = reach - distances
    else:
        x = distances / reach
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # bicubic with a = -0.5
        kernel = torch.where(x < 1, near, far)
    used = (places >= 0) & (places < own) & (distances < SUPPORT[interpolation] * reach)
    weights = torch.where(used, kernel, 0)
    total = weights.sum(1, keepdim=True)
    high = _nearest(weights * BASE / total)
    low = _nearest((weights * BASE - high * total) * BASE / total)
    return high.float(), low.float()


def resize_levels(pixels: Tensor, rows: Weights, columns: Weights) -> Tensor:
    """Resize (C, H, W) in 0 to 255 by weights (h, H) and (w, W), rounded after each axis as in Pillow: equal to it."""
    return _resize_last(_resize_last(pixels, columns).transpose(1, 2), rows).transpose(1, 2)


def _resize_last(pixels: Tensor, weights: Weights) -> Tensor:
    """Resize the last axis of (C, H, W)."""
    high, low = (pixels @ digit.T for digit in weights)
    levels = high / BASE
    whole = levels.floor()
    return (whole + _nearest(levels - whole + low / BASE**2)).clamp(0, 255)


def _nearest(values: Tensor) -> Tensor:
    return (values + 0.5).floor()


def sides(image: Tensor) -> Tensor:
    """Return height and width of an image (H, W, C) in float64."""
    return torch.stack([torch.scalar_tensor(side, dtype=torch.float64) for side in image.shape[:2]])


def count(size: int) -> Tensor:
    """Return 0 to ``size`` - 1 in float64."""
    return torch.arange(size, dtype=torch.float64)


def lengths(sizes: Tensor) -> tuple[int, int]:
    """Convert two sizes of at least 1, computed from an image, to the height and width of a tensor.

    When tracing they are symbols, which ``int`` would reject.
    """
    height, width = sizes.to(torch.int64).tolist()
    torch._check(height >= 1)
    torch._check(width >= 1)
    return height, width
