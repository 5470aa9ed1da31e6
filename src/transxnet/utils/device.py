"""Choosing a device, and moving models to it."""

import torch
from torch import nn

from transxnet.utils.errors import UserError, check_one_of


def default_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_device(device: str) -> str:
    """Check a device's name; "auto" is "cuda" where there is a GPU, else "cpu".

    Raises:
        UserError: another name than auto, cpu or cuda, or there is no GPU.
    """
    check_one_of(("auto", "cpu", "cuda"), device=device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA device here. Give --device cpu, or leave it out.")
    return device


def prepare_for_inference(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device in evaluation mode, its weights in channels-last layout."""
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
