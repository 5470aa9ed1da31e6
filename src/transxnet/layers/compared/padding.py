"""Padding of maps for patches and windows."""

import torch.nn.functional as F
from torch import Tensor

from transxnet.ops.fx_leaf import fx_leaf


@fx_leaf()
def pad_to_multiple(x: Tensor, step: int) -> Tensor:
    """Pad with zeros at the bottom and the right to multiples of ``step``: (B, C, H, W) -> (B, C, H', W')."""
    below, right = -x.shape[2] % step, -x.shape[3] % step
    return F.pad(x, (0, right, 0, below)) if below or right else x
