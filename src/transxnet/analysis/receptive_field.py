"""Effective receptive fields: the gradient at the center of the feature map with respect to the input pixels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from transxnet.analysis.network_parts import find_part, record_calls, to_feature_maps
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class ReceptiveField:
    """An effective receptive field.

    Attributes:
        label: the network, as the user named it.
        part: title of the part.
        untrained: whether the network's weights are random.
        density: (S, S) float64, each pixel's fraction of the whole gradient; sums to 1.
        images: number of images averaged.
    """

    label: str
    part: str
    untrained: bool
    density: np.ndarray
    images: int

    @property
    def center(self) -> tuple[int, int]:
        """Row and column of the field's median: half of the mass lies on either side.

        It may differ from the image's center: convolutions of stride 2 see the image half a pixel further up and left
        than non-overlapping patches, which adds up to 16 pixels at a stride of 32.
        """
        row, column = (int(np.searchsorted(self.density.sum(axis=axis).cumsum(), 0.5)) for axis in (1, 0))
        return row, column

    def radius(self, share: float) -> float:
        """Distance from the center, in pixels, that encloses this fraction (0 to 1) of the mass."""
        distance = self._distance().ravel()
        order = np.argsort(distance, kind="stable")
        held = np.cumsum(self.density.ravel()[order])
        return float(distance[order][min(np.searchsorted(held, share * held[-1] * (1 - 1e-12)), len(held) - 1)])

    def area(self, share: float) -> float:
        """Fraction of the image's pixels (0 to 1) that lie within :meth:`radius` of the center."""
        return float((self._distance() <= self.radius(share)).mean())

    def _distance(self) -> np.ndarray:
        rows, columns = np.indices(self.density.shape)
        return np.hypot(rows - self.center[0], columns - self.center[1])


def receptive_field(network: nn.Module, images: Tensor, part: str = "") -> np.ndarray:
    """Compute the gradient of the center features with respect to the input pixels.

    Luo et al. 2016 take the gradient of one unit. Here it is the gradient of the sum of absolute values over all
    channels ``y_c`` at the center (with an even number of positions, the one after the middle). Channels of opposite
    sign then do not cancel, nor do those after a norm over channels, whose plain sum is constant. The gradient's
    absolute values are summed over the colors of each pixel.

    Args:
        network: in evaluation mode.
        images: (B, 3, S, S), normalized, on the network's device.
        part: name of a part, see :func:`transxnet.analysis.network_parts.find_part`; by default the last stage.

    Returns:
        (B, S, S) float64 ``sum over colors of |d (sum_c |y_c(center)|) / d x|``.

    Raises:
        UserError: the part does not exist or has no feature maps.
    """
    pixels = images.detach().clone().requires_grad_()
    with torch.enable_grad(), record_calls(find_part(network, part).module) as (calls,):
        network(pixels)
        if not calls.outputs:
            raise UserError(f"the forward pass of {type(network).__name__} does not use {part!r}. Choose another part.")
        features = to_feature_maps(network, calls.outputs[-1])
        center = features[:, :, features.shape[2] // 2, features.shape[3] // 2]
        (gradient,) = torch.autograd.grad(center.abs().sum(), pixels)
    return gradient.abs().sum(dim=1).cpu().double().numpy()
