"""Choose a device and move models to it."""

from collections.abc import Collection

import torch
from torch import nn

from transxnet.utils.errors import UserError, check_one_of

DEVICES = ("auto", "cpu", "cuda", "mps")
"""Names of devices; auto is a GPU if there is one."""


def resolve_device(device: str = "auto", accepted: Collection[str] = DEVICES) -> torch.device:
    """Return a device by name.

    Args:
        device: name of a device, optionally with an index, as in "cuda:1".
        accepted: names without an index.

    Raises:
        UserError: the name is not accepted, or this machine has no such device.
    """
    kind = device.partition(":")[0]
    check_one_of(accepted, device=kind)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind] and kind in accepted))
    if not available[kind]:
        raise UserError(f"no GPU found for device {device}. Leave out --device to run on the CPU.")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device must be {' or '.join(map(repr, accepted))}, got {device!r}.") from error


def device_of_training(device: str) -> str:
    """Return the device of a training; auto if it is an accelerator that only Lightning knows."""
    return device if device in DEVICES else "auto"


def prepare_for_inference(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device, in evaluation mode and channels-last layout."""
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
