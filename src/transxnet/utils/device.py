"""Devices."""

import torch
from torch import nn


def default_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def placed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device, in evaluation mode, its weights laid out for convolutions."""
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
