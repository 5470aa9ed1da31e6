"""Trace a network into a program with static or dynamic sizes."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export

from transxnet.deploy.export_format import WholeImageProgram
from transxnet.deploy.exportable_model import MULTIPLE
from transxnet.deploy.whole_image import WholeImage
from transxnet.utils.errors import UserError

AXES = ("batch", "height", "width")

_MIN_SIZES = {"batch": 2, "height": 320, "width": 448}
"""Minimum sizes for tracing dynamic axes. A tracer specializes sizes of 1 and equal sizes; these are neither, at any
stride up to a detector's 128."""

EXAMPLE_IMAGE = torch.zeros(331, 457, 3, dtype=torch.uint8)
"""One image to trace with; its sides differ from each other and from all sizes in a network."""


def trace(graph: nn.Module, images: Tensor, dynamic: Sequence[str]) -> ExportedProgram:
    """Trace a module that takes images.

    Args:
        graph: in evaluation mode.
        images: example input.
        dynamic: which of "batch", "height" and "width" are dynamic; height and width are multiples of 32.

    Raises:
        UserError: the network cannot be traced this way.
    """
    return _trace(graph, (images,), (_image_axes(images, dynamic),), dynamic)


def trace_whole_image(
    whole: WholeImage, graph: nn.Module, size: Sequence[int], dynamic: Sequence[str]
) -> WholeImageProgram:
    """Trace a network and the modules around it, for one image (H, W, 3) uint8 of any size.

    Args:
        whole: the modules around the network.
        graph: the network, in evaluation mode.
        size: height and width of the network's input, if they are not dynamic.
        dynamic: "height" and "width", or nothing.

    Raises:
        UserError: the network cannot be traced this way.
    """
    any_size = {0: Dim("height"), 1: Dim("width")}
    images = example_images((MULTIPLE, MULTIPLE) if dynamic else size, 1, False, dynamic)  # small, since it is run
    height, width = images.shape[2:]
    with torch.no_grad():
        others = tuple(torch.tensor([width, height] * 2).float() for _ in whole.prepare(EXAMPLE_IMAGE)[1:])
        results = graph(images, *others)
    results = results if isinstance(results, tuple) else (results,)
    maps = [_image_axes(each, dynamic) if whole.maps else None for each in results]
    fixed = [None] * len(others)
    return WholeImageProgram(
        _trace(whole.prepare, (EXAMPLE_IMAGE,), (any_size,), ()),
        _trace(graph, (images, *others), (_image_axes(images, dynamic), *fixed), dynamic),
        _trace(whole.finish, (EXAMPLE_IMAGE, *others, *results), (any_size, *fixed, *maps), ()),
    )


def _image_axes(images: Tensor, dynamic: Sequence[str]) -> dict[int, Dim] | None:
    """The dynamic axes of images (N, H, W, 3) uint8 or (N, C, H, W)."""
    places = dict(zip(AXES, (0, 1, 2) if images.dtype == torch.uint8 else (0, 2, 3), strict=True))
    return {
        places[name]: Dim(name, min=1) if name == "batch" else MULTIPLE * Dim(f"{name}_{MULTIPLE}", min=1)
        for name in dynamic
    } or None


def _trace(
    graph: nn.Module, inputs: tuple[Tensor, ...], axes: tuple[dict[int, Dim] | None, ...], dynamic: Sequence[str]
) -> ExportedProgram:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="torchvision")  # bug in torchvision
            return export(graph, inputs, dynamic_shapes=axes, strict=False)
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
