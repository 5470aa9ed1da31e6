"""Padding of maps for patches and windows."""

import torch.nn.functional as F
from torch import Tensor
from torch.fx import Proxy


def pad_to_multiple(x: Tensor, step: int) -> Tensor:
    """Pad with zeros at the bottom and the right to multiples of ``step``: (B, C, H, W) -> (B, C, H', W')."""
    if isinstance(x, Proxy):  # torch.fx cannot trace the condition and records the function as one node
        return x.tracer.create_proxy("call_function", pad_to_multiple, (x, step), {})
    below, right = -x.shape[2] % step, -x.shape[3] % step
    return F.pad(x, (0, right, 0, below)) if below or right else x
