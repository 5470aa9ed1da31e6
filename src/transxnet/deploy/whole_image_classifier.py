"""A classifier with its preprocessing, as a module to trace: a decoded image in, probabilities out.

Resizing is two matrix products with weights that are computed from the size of the image. It is the same in every
runtime, while the runtimes' own operators differ from Pillow and from each other.
"""

import torch
from torch import Tensor, nn

from transxnet.data.loading.channel_transforms import MAX_ASPECT
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.metrics.targets import Targets

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


def _sides(pixels: Tensor) -> Tensor:
    """Height and width of an image (H, W, 3) in float64."""
    return torch.stack([torch.scalar_tensor(side, dtype=torch.float64) for side in pixels.shape[:2]])


def _count(size: int) -> Tensor:
    return torch.arange(size, dtype=torch.float64)


class ClassifierInput(nn.Module):
    """Resize, crop and normalize an image as :class:`~transxnet.data.loading.preprocessing.Preprocessing`.

    Args:
        preprocessing: with "bilinear" or "bicubic" interpolation.

    Shapes:
        uint8 (H, W, 3) -> (1, 3, S, S) float32.
    """

    def __init__(self, preprocessing: Preprocessing):
        super().__init__()
        self.side, self.interpolation = preprocessing.img_size, preprocessing.interpolation
        self.shorter = int(preprocessing.img_size / preprocessing.crop_pct)
        for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        sides = _sides(pixels)
        start = ((sides - MAX_ASPECT * sides.amin(0)).clamp(min=0) / 2).floor()
        kept = sides - 2 * start
        fitted = (self.shorter * kept / kept.amin(0)).floor()
        first = ((fitted - self.side) / 2).round()
        rows, columns = (
            antialiased_weights(
                _count(pixels.shape[axis]) - start[axis],
                fitted[axis],
                _count(self.side) + first[axis],
                kept[axis],
                self.interpolation,
            )
            for axis in (0, 1)
        )
        levels = resize_levels(pixels.permute(2, 0, 1).float(), rows, columns)
        return ((levels / 255 - self.mean) / self.std)[None]


class WholeImageClassifier(nn.Module):
    """A classifier that takes a decoded image of any size and returns probabilities.

    Args:
        preprocess: from the image to the network's input.
        network: images (1, 3, S, S) -> logits (1, K).
        targets: what the logits mean.
        dtype: data type of the network.

    Shapes:
        uint8 (H, W, 3) -> (1, K) float32: probabilities of classes or labels, or values in their unit.
    """

    def __init__(self, preprocess: ClassifierInput, network: nn.Module, targets: Targets, dtype: torch.dtype):
        super().__init__()
        self.preprocess, self.network, self.targets, self.dtype = preprocess, network, targets, dtype

    def forward(self, pixels: Tensor) -> Tensor:
        return self.targets.activate(self.network(self.preprocess(pixels).to(self.dtype)).float())
