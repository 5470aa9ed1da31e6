"""Maps whose sides patches or windows do not divide."""

import torch.nn.functional as F
from torch import Tensor


def pad_to_multiple(x: Tensor, step: int) -> Tensor:
    """Zeros at the bottom and the right: (B, C, H, W) -> (B, C, H', W'), the next multiples of step."""
    below, right = -x.shape[2] % step, -x.shape[3] % step
    return F.pad(x, (0, right, 0, below)) if below or right else x
