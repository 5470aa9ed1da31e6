"""Report this machine's environment, and which implementation each operator uses on it and why."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from transxnet.ops.backend import record_choices
from transxnet.ops.measured_choice import KernelComparison
from transxnet.utils.device import resolve_device
from transxnet.utils.environment import collect_environment
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class Finding:
    """An operator with an input shape.

    Attributes:
        operator: its name in :mod:`transxnet.ops`.
        stage: 1 to 4, or None if the network was run.
        shape: shape of its first argument.
        choice: the chosen implementation, and the reasons against the others.
        comparison: what was measured on a GPU, or None.
    """

    operator: str
    stage: int | None
    shape: tuple[int, ...]
    choice: Choice
    comparison: KernelComparison | None = None


def doctor(
    model: str = "transxnet_t",
    mode: Literal["infer", "train"] = "infer",
    img_size: int = 224,
    batch_size: int | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    measure: bool = False,
) -> list[Finding]:
    """Report the implementation of every operator in a network.

    On a GPU, an operator's implementation is chosen by measurement at its first use for a class of input shapes, and
    remembered in the cache folder.

    Args:
        model: one of our models.
        mode: a forward pass without gradients, or a training step.
        img_size: side of the images in pixels.
        batch_size: batch size; by default 16 on a CPU, 128 on a GPU.
        dtype: data type of the activations.
        device: device to run on; by default a GPU if there is one.
        measure: run the network on random images, which on a GPU measures every operator that has not been measured.

    Raises:
        UserError: the model is unknown or not ours, the device does not exist, or TRANSXNET_OPS asks for an
            implementation that is not available.
    """
    where = resolve_device(device, ("auto", "cpu", "cuda")).type
    batch_size = batch_size or (128 if where == "cuda" else 16)
    with torch.device(where if measure else "meta"):
        network = create_model(model)
    if not isinstance(network, TransXNet):
        raise UserError(f"doctor supports only TransXNet models, got {model}. Choose one, such as transxnet_t.")
    with torch.set_grad_enabled(mode == "train"):
        if measure:
            images = torch.randn(batch_size, 3, img_size, img_size, device=where)
            return _measured_findings(network.train(mode == "train"), images, getattr(torch, dtype))
        return list(_findings(network, img_size, batch_size, getattr(torch, dtype), where))


def _measured_findings(network: TransXNet, images: torch.Tensor, dtype: torch.dtype) -> list[Finding]:
    """Run the network in channels_last and return a finding for each operator and class of inputs."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = images.contiguous(memory_format=torch.channels_last)
    under: AbstractContextManager = nullcontext()
    if dtype != torch.float32:
        under = torch.autocast(images.device.type, dtype)
    with record_choices() as records, under:
        network(images)
    distinct = {record.inputs: record for record in records}
    return [Finding(r.operator, None, r.shape, r.choice, r.comparison) for r in distinct.values()]


def _findings(network: TransXNet, size: int, batch: int, dtype: torch.dtype, device: str) -> Iterator[Finding]:
    def tensor(shape: Sequence[int], adjacent: int) -> torch.Tensor:
        """A tensor of any size that takes almost no memory, with one dimension adjacent in memory."""
        values = torch.empty(shape[adjacent], dtype=dtype, device=device, requires_grad=torch.is_grad_enabled())
        return values.as_strided(shape, [int(i == adjacent) for i in range(len(shape))])

    side = size
    stages: Any = network.stages
    for i, stage in enumerate(stages, start=1):
        block = stage.blocks[0]
        side = ceil(side / stage.patch_embed.conv.stride[0])
        keys = ceil(side / stage.sr_ratio) ** 2
        osra, idconv, branches = block.mixer.osra, block.mixer.idconv, list(block.ffn.dwconv)
        heads, head_dim = osra.num_heads, osra.q.out_channels // osra.num_heads
        kernels = tensor((batch, idconv.dim, idconv.kernel_size, idconv.kernel_size), 1)
        queries, *keys_and_values = (tensor((batch, heads, n, head_dim), 3) for n in (side * side, keys, keys))
        hidden = tensor((batch, block.ffn.expand.out_channels, side, side), 1)
        weights, biases = [conv.weight for conv in branches], [conv.bias for conv in branches]
        calls: dict[str, tuple] = {
            "dynamic_depthwise_conv2d": (
                tensor((batch, idconv.dim, side, side), 1),
                kernels,
                tensor((batch, idconv.dim), 1),
            ),
            "multiscale_depthwise_conv2d": (hidden, weights, biases, True, False),
            "biased_attention": (queries, *keys_and_values, tensor((1, heads, side * side, keys), 3)),
        }
        for operator, arguments in calls.items():
            yield Finding(operator, i, tuple(arguments[0].shape), choose(operator, *arguments))


def show(findings: list[Finding]) -> Group:
    """Format the environment and the findings for a terminal."""
    facts = Table.grid(padding=(0, 2))
    for name, value in collect_environment().items():
        facts.add_row(name, value)
    findings = sorted(findings, key=lambda f: f.operator)
    against = _reasons(findings)
    return Group(facts, "", _table(findings), "", Text("implementations not selected", style="bold"), against)


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("operator", "stage", "input shape", "implementation"):
        table.add_column(title)
    measured = any(f.comparison for f in findings)
    for title in ("Triton\nms", "PyTorch\nms", "Triton\nerror") if measured else ():
        table.add_column(title, justify="right")
    last = None
    for f in findings:
        numbers = (f.comparison.kernel.milliseconds, f.comparison.plain.milliseconds) if f.comparison else ()
        table.add_row(
            f.operator if f.operator != last else "",
            str(f.stage or ""),
            " x ".join(map(str, f.shape)),
            f.choice.implementation,
            *(f"{value:.3f}" for value in numbers),
            *([f"{f.comparison.kernel.error:.1e}"] if f.comparison else []),
        )
        last = f.operator
    return table


def _reasons(findings: list[Finding]) -> Table:
    """The reasons against implementations; the table of times shows those of a measurement, unless a kernel failed."""
    reasons: dict[tuple[str, str, str], list[Finding]] = {}
    for f in findings:
        for name, why in f.choice.refused.items():
            if f.comparison is None or f.comparison.defect:
                reasons.setdefault((f.operator, name, why), []).append(f)
    against = Table.grid(padding=(0, 2))
    last = None
    for (operator, name, why), cases in reasons.items():
        all_of_operator = len(cases) == sum(f.operator == operator for f in findings)
        stages = ", ".join(str(f.stage) if f.stage else " x ".join(map(str, f.shape)) for f in cases)
        where = "" if all_of_operator else f" (stage {stages})" if cases[0].stage else f" ({stages})"
        against.add_row(operator if operator != last else "", name, why + where)
        last = operator
    return against
