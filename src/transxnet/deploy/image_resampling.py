"""Resize an image in a traced module, as Pillow does.

Resizing is two matrix products with weights that are computed from the size of the image. It is the same in every
runtime, while the runtimes' own operators differ from Pillow and from each other.
"""

import torch
from torch import Tensor

SUPPORT = {"bilinear": 1, "bicubic": 2}
"""Interpolations, and the number of pixels at each side that they use when enlarging."""


def antialiased_weights(places: Tensor, fitted: Tensor, positions: Tensor, own: Tensor, interpolation: str) -> Tensor:
    """Compute the weights (P, N) with which Pillow resizes an axis.

    Args:
        places: (N,) positions of the pixels; those below 0 or from ``own`` are not used.
        fitted: size of the resized axis.
        positions: (P,) positions on it.
        own: size of the axis.
        interpolation: "bilinear" or "bicubic".

    Source:
        Pillow, ``precompute_coeffs`` in src/libImaging/Resample.c.
    """
    scale = own / fitted
    stretch = scale.clamp(min=1)
    centers = (positions[:, None] + 0.5) * scale
    reach = SUPPORT[interpolation] * stretch
    low, high = (centers - reach + 0.5).floor().clamp(min=0), torch.minimum((centers + reach + 0.5).floor(), own)
    x = ((places + 0.5 - centers) / stretch).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # bicubic with a = -0.5
    kernel = 1 - x if interpolation == "bilinear" else torch.where(x < 1, near, far)
    weights = torch.where((places >= low) & (places < high) & (x < SUPPORT[interpolation]), kernel, 0)
    return (weights / weights.sum(1, keepdim=True)).float()


def resize_levels(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Resize (C, H, W) in 0 to 255 by weights (h, H) and (w, W), rounded after each axis as in Pillow."""
    return _rounded(rows @ _rounded(pixels @ columns.T))


def _rounded(levels: Tensor) -> Tensor:
    return (levels + 0.5).floor().clamp(0, 255)


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
