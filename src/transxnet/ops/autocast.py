"""Autocast for custom operators, which PyTorch's autocast does not know."""

import torch
from torch import Tensor

# Computed once, since the compiler of torch 2.11 cannot trace is_autocast_available.
_AUTOCAST_DEVICES = frozenset(filter(torch.amp.is_autocast_available, ("cpu", "cuda", "mps", "xpu")))


def cast_to_autocast(x: Tensor) -> Tensor:
    """Cast to the dtype that autocast, if enabled, uses for convolutions and matrix products."""
    device = x.device.type
    if (
        device in _AUTOCAST_DEVICES
        and torch.is_autocast_enabled(device)
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
    ):
        return x.to(torch.get_autocast_dtype(device))
    return x
