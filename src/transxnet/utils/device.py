"""Choose a device and move models to it."""

import torch
from torch import nn

from transxnet.utils.errors import UserError, check_one_of


def default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_device(device: str) -> str:
    """Check the name of a device and resolve "auto": "cuda" if there is a GPU, else "cpu".

    Raises:
        UserError: the name is not auto, cpu or cuda, or there is no GPU.
    """
    check_one_of(("auto", "cpu", "cuda"), device=device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch found no CUDA device. Use --device cpu, or remove --device.")
    return device


def prepare_for_inference(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device, in evaluation mode and channels-last layout."""
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
