"""Report this machine's environment, and which implementation each operator uses on it and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from transxnet.models.create import create_model
from transxnet.models.transxnet import TransXNet
from transxnet.ops import Choice, choose
from transxnet.utils.device import resolve_device
from transxnet.utils.environment import collect_environment
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class Finding:
    """An operator with the input shape of a stage.

    Attributes:
        operator: its name in :mod:`transxnet.ops`.
        stage: 1 to 4.
        shape: shape of its first argument.
        choice: the chosen implementation, and the reasons against the others.
    """

    operator: str
    stage: int
    shape: tuple[int, ...]
    choice: Choice


def doctor(
    model: str = "transxnet_t",
    mode: Literal["infer", "train"] = "infer",
    img_size: int = 224,
    batch_size: int | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> list[Finding]:
    """Report the implementation of every operator in a network.

    Args:
        model: one of our models.
        mode: a forward pass without gradients, or a training step.
        img_size: side of the images in pixels.
        batch_size: batch size; by default 16 on a CPU, 128 on a GPU.
        dtype: data type of the activations.
        device: device to run on; by default a GPU if there is one.

    Raises:
        UserError: the model is unknown or not ours, the device does not exist, or TRANSXNET_OPS asks for an
            implementation that is not available.
    """
    where = resolve_device(device, ("auto", "cpu", "cuda")).type
    batch_size = batch_size or (128 if where == "cuda" else 16)
    with torch.device("meta"):
        network = create_model(model)
    if not isinstance(network, TransXNet):
        raise UserError(f"doctor supports only TransXNet models, got {model}. Choose one, such as transxnet_t.")
    with torch.set_grad_enabled(mode == "train"):
        return list(_findings(network, img_size, batch_size, getattr(torch, dtype), where))


def _findings(network: TransXNet, size: int, batch: int, dtype: torch.dtype, device: str) -> Iterator[Finding]:
    one_value = torch.empty(1, dtype=dtype, device=device)  # expanded to any shape without using memory
    side = size
    stages: Any = network.stages
    for i, stage in enumerate(stages, start=1):
        block = stage.blocks[0]
        side = ceil(side / stage.patch_embed.conv.stride[0])
        keys = ceil(side / stage.sr_ratio) ** 2
        osra, idconv = block.mixer.osra, block.mixer.idconv
        heads, head_dim = osra.num_heads, osra.q.out_channels // osra.num_heads
        for operator, shape, more in [
            ("dynamic_depthwise_conv2d", (batch, idconv.dim, side, side), None),
            ("multiscale_depthwise_conv2d", (batch, block.ffn.expand.out_channels, side, side), None),
            ("biased_attention", (batch, heads, side * side, head_dim), keys),
        ]:
            yield Finding(operator, i, shape, choose(operator, one_value.expand(shape), keys=more))


def show(findings: list[Finding]) -> Group:
    """Format the environment and the findings for a terminal."""
    facts = Table.grid(padding=(0, 2))
    for name, value in collect_environment().items():
        facts.add_row(name, value)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("operator", "stage", "input shape", "implementation"):
        table.add_column(title)
    reasons: dict[tuple[str, str, str], list[int]] = {}
    last = None
    for f in sorted(findings, key=lambda f: f.operator):
        table.add_row(
            f.operator if f.operator != last else "",
            str(f.stage),
            " x ".join(map(str, f.shape)),
            f.choice.implementation,
        )
        last = f.operator
        for name, why in f.choice.refused.items():
            reasons.setdefault((f.operator, name, why), []).append(f.stage)
    against = Table.grid(padding=(0, 2))
    last = None
    for (operator, name, why), stages in reasons.items():
        where = "" if len(stages) == 4 else f" (stage {', '.join(map(str, stages))})"
        against.add_row(operator if operator != last else "", name, why + where)
        last = operator
    return Group(facts, "", table, "", Text("implementations not selected", style="bold"), against)
