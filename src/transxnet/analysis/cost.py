"""Parameters and MACs (FLOPs in the paper) of a model."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from transxnet.models.create import check_name, create_model_with, default_img_size, wrong_size_as_user_error
from transxnet.models.model_spec import ModelSpec
from transxnet.utils.errors import UserError
from transxnet.utils.image_size import parse_image_size

_LINEAR = ("convolution", "mm", "addmm", "linear", "_linear")
_ATTENTION = ("bmm", "baddbmm", "_scaled_dot_product")


@dataclass(frozen=True)
class Cost:
    """The cost of a model.

    Attributes:
        parameters: number of parameters.
        multiply_adds: MACs of convolutions and linear layers for one image; FLOPs in the literature.
        attention_multiply_adds: MACs of attention's two matrix products for one image, not counted in the literature.
    """

    parameters: int
    multiply_adds: int
    attention_multiply_adds: int


@dataclass(frozen=True)
class StageInfo:
    """One stage's output.

    Attributes:
        name: name of the module.
        channels: C.
        reduction: stride relative to the input.
        size: height and width of the output.
    """

    name: str
    channels: int
    reduction: int
    size: tuple[int, int]


@dataclass(frozen=True)
class ModelInfo:
    """Facts about a model that are known without running it."""

    name: str
    img_size: int
    cost: Cost
    stages: list[StageInfo]
    num_classes: int
    crop_pct: float
    interpolation: str
    weights: list[str]


def count(model: nn.Module, height: int, width: int, in_chans: int = 3) -> Cost:
    """Count a model's parameters and its MACs for one image.

    The model runs on PyTorch's meta device, without computation or memory.

    Args:
        model: takes (1, in_chans, height, width).
        height: height of the image in pixels.
        width: width of the image in pixels.
        in_chans: channels of the image.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    linear, attention, _ = count_operations(shadow, torch.empty(1, in_chans, height, width, device="meta"))
    return Cost(sum(p.numel() for p in model.parameters()), linear, attention)


def count_operations(function: Callable, *args: Any) -> tuple[int, int, Any]:
    """Count the MACs of a call: in convolutions and linear layers, and in attention; also return its result."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = function(*args)
    totals = {str(op).removeprefix("aten."): flops // 2 for op, flops in counter.get_flop_counts()["Global"].items()}
    attention = sum(n for op, n in totals.items() if op.startswith(_ATTENTION))
    return sum(n for op, n in totals.items() if op.startswith(_LINEAR)), attention, result


def info(model: str, img_size: int | str | None = None) -> ModelInfo:
    """Report parameters, MACs (FLOPs in the paper), stages and output shapes of a model.

    Args:
        model: name of one of our models or timm's.
        img_size: side of the input in pixels; by default the model's own.

    Raises:
        UserError: the model does not exist or does not accept the size.
    """
    spec = check_name(model)
    size, width = parse_image_size(default_img_size(spec) if img_size is None else img_size)
    if size != width:
        raise UserError(f"img_size must be one side in pixels for a classifier, got {img_size!r}.")
    with wrong_size_as_user_error(model, size, size, "--img-size"), torch.device("meta"):
        network, _ = create_model_with(spec, {"img_size": size})
        cost = count(network, size, size)
    cfg: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return ModelInfo(
        name=model,
        img_size=size,
        cost=cost,
        stages=_stages(spec, size),
        num_classes=network.num_classes,  # type: ignore[arg-type]
        crop_pct=cfg["crop_pct"],
        interpolation=cfg["interpolation"],
        weights=timm.list_pretrained(f"{spec.architecture}.*"),
    )


def show(facts: ModelInfo) -> Group:
    """Format the facts for a terminal."""
    size = f"{facts.img_size}x{facts.img_size}"
    lines = {
        "parameters": f"{facts.cost.parameters:,}",
        f"MACs at {size}": f"{facts.cost.multiply_adds / 1e9:.2f} G in conv and linear layers (paper: FLOPs)",
        "": f"{facts.cost.attention_multiply_adds / 1e9:.2f} G in attention, not counted in the paper",
        "classes": f"{facts.num_classes:,}",
        "preprocessing": f"{facts.interpolation}, crop {facts.crop_pct:g}",
        "published weights": ", ".join(facts.weights) or "none",
    }
    table = Table("stage", "channels", "reduction", f"output at {size}", box=None, pad_edge=False, padding=(0, 3, 0, 2))
    for stage in facts.stages:
        table.add_row(stage.name, str(stage.channels), str(stage.reduction), f"{stage.size[0]}x{stage.size[1]}")
    title = Text(facts.name, style="bold")
    return Group(title, *(f"  {name:<28}{value}" for name, value in lines.items()), *([table] if facts.stages else []))


def _stages(spec: ModelSpec, size: int) -> list[StageInfo]:
    with torch.no_grad(), torch.device("meta"):
        try:
            network, _ = create_model_with(spec.untagged_name, {"img_size": size}, features_only=True)
        except (RuntimeError, AttributeError):  # raised by timm for networks without stages
            return []
        outputs = network.eval()(torch.empty(1, 3, size, size))
    facts: Any = network.feature_info
    modules, channels, reductions = facts.module_name(), facts.channels(), facts.reduction()
    # NHWC networks return (B, H, W, C), recognized by the number of channels.
    shapes = [o.shape[2:] if o.shape[1] == c else o.shape[1:3] for o, c in zip(outputs, channels, strict=True)]
    return [StageInfo(m, c, r, (s[0], s[1])) for m, c, r, s in zip(modules, channels, reductions, shapes, strict=True)]
