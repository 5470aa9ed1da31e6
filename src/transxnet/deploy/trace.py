"""Trace a network into a program with static or dynamic sizes."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from transxnet.deploy.exportable_model import MULTIPLE
from transxnet.utils.errors import UserError

AXES = ("batch", "height", "width")

_MIN_SIZES = {"batch": 2, "height": 320, "width": 448}
"""Minimum sizes for tracing dynamic axes. A tracer specializes sizes of 1 and equal sizes; these are neither, at any
stride up to a detector's 128."""

EXAMPLE_IMAGE = torch.zeros(331, 457, 3, dtype=torch.uint8)
"""One image to trace with; its sides differ from each other and from all sizes in a network."""


def trace(graph: nn.Module, images: Tensor, dynamic: Sequence[str]) -> ExportedProgram:
    """Trace a module that takes images, or one image (H, W, 3).

    Args:
        graph: in evaluation mode.
        images: example input.
        dynamic: which of "batch", "height" and "width" are dynamic; of images, height and width are multiples of 32.

    Raises:
        UserError: the network cannot be traced this way.
    """
    places = dict(zip(AXES, (0, 1, 2) if images.dtype == torch.uint8 else (0, 2, 3), strict=True))
    open_axes = {
        places[name]: Dim(name, min=1) if name == "batch" else MULTIPLE * Dim(f"{name}_{MULTIPLE}", min=1)
        for name in dynamic
    }
    if images.ndim == 3:
        open_axes = {0: Dim("height"), 1: Dim("width")}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="torchvision")  # bug in torchvision
            return export(graph, (images,), dynamic_shapes=(open_axes or None,), strict=False)
    except Exception as error:  # torch.export raises many kinds of exceptions
        what = " and ".join(dynamic)
        hint = f" with dynamic {what}. Try --dynamic none" if dynamic else ""
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"PyTorch cannot trace this network{hint}. {reason}") from error


def example_images(
    size: Sequence[int], batch: int, uint8: bool, dynamic: Sequence[str] = (), channels: int = 3
) -> Tensor:
    """Random images to trace with, larger if axes are dynamic."""
    random = torch.Generator().manual_seed(0)
    batch, *size = (
        max(side, _MIN_SIZES[axis]) if axis in dynamic else side
        for axis, side in zip(AXES, (batch, *size), strict=True)
    )
    if uint8:
        return torch.randint(0, 256, (batch, *size, 3), generator=random, dtype=torch.uint8)
    return torch.randn(batch, channels, *size, generator=random)
