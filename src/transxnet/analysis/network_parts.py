"""Named parts of a network: its stages, and the parts of its last D-Mixer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

from torch import Tensor, nn

from transxnet.layers import DMixer
from transxnet.utils.errors import UserError, nearest

MIXER_PARTS = {"idconv": "local branch", "osra": "global branch", "ste": "fusion"}
"""The parts of the last D-Mixer in Fig. 8, and their titles."""


@dataclass(frozen=True)
class NetworkPart:
    """A module of a network, with a title.

    Attributes:
        title: shown in figures and tables, such as "stage 4" or "IDConv, local branch".
        module: the module.
    """

    title: str
    module: nn.Module


@dataclass
class ModuleCalls:
    """Inputs and outputs of a module, one entry for each call."""

    inputs: list[tuple[Any, ...]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


def named_parts(network: nn.Module) -> dict[str, NetworkPart]:
    """Return the parts that have a short name, in the order of the forward pass.

    Args:
        network: a classifier or feature extractor, ours or timm's.

    Returns:
        "stage1" and so on, the stages of stride 4 and more (a transformer of one stride has one stage), and, if the
        network has D-Mixers, "idconv", "osra" and "ste" of the last one. A part that replaces one of these keeps its
        name. The parts of the last D-Mixer come before the last stage.
    """
    stages = _stages(network)
    parts = {f"stage{i}": NetworkPart(f"stage {i}", module) for i, module in enumerate(stages, 1)}
    mixers = [module for module in network.modules() if isinstance(module, DMixer)]
    if not mixers:
        return parts
    last = [parts.popitem()] if parts else []
    for name, title in MIXER_PARTS.items():
        module = getattr(mixers[-1], name)
        parts[name] = NetworkPart(f"{type(module).__name__}, {title}", module)
    return {**parts, **dict(last)}


def find_part(network: nn.Module, name: str = "") -> NetworkPart:
    """Find a part of a network by name.

    Args:
        network: as in :func:`named_parts`.
        name: one of :func:`named_parts`, or the name of a module, such as "stages.2.blocks.0.mixer.idconv". Empty for
            the last stage.

    Raises:
        UserError: no part has this name, or the name is empty and the network has no stages.
    """
    parts = named_parts(network)
    if not name:
        stages = [key for key in parts if key.startswith("stage")]
        if not stages:
            raise UserError(
                f"{type(network).__name__} has no stages in its feature_info. Add the name of a module after a colon, "
                f"such as {', '.join(key for key, _ in list(network.named_children())[-3:])}."
            )
        return parts[stages[-1]]
    if name in parts:
        return parts[name]
    modules = dict(network.named_modules())
    if name in modules:
        return NetworkPart(name, modules[name])
    why = " It has no D-Mixer." if name in MIXER_PARTS else ""
    raise UserError(
        f"{type(network).__name__} has no part {name!r}.{why}{nearest(name, [*parts, *modules])} "
        f"Accepted: {', '.join(parts)}, and the names of its modules."
    )


def _stages(network: nn.Module) -> list[nn.Module]:
    """The last module of each stride from 4 up, according to timm's ``feature_info``."""
    info: Any = getattr(network, "feature_info", None) or []
    entries = {entry["reduction"]: entry["module"] for entry in getattr(info, "info", info) if entry["reduction"] >= 4}
    modules = dict(network.named_modules())
    # timm's wrappers for dense features store the network under another name, or its modules with underscores.
    found = [
        next((modules[n] for n in (name, f"model.{name}", name.replace(".", "_")) if n in modules), None)
        for name in entries.values()
    ]
    return [module for module in found if module is not None]


@contextmanager
def record_calls(*modules: nn.Module) -> Iterator[list[ModuleCalls]]:
    """Record inputs and outputs of modules inside the context.

    Yields:
        The calls of each module, in the order of the arguments.
    """
    records = [ModuleCalls() for _ in modules]
    handles = []
    for module, record in zip(modules, records, strict=True):

        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any, record: ModuleCalls = record) -> None:
            record.inputs.append(inputs)
            record.outputs.append(output)

        handles.append(module.register_forward_hook(hook))
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def to_feature_maps(network: nn.Module, output: Any) -> Tensor:
    """Convert the output of a network's module to feature maps (B, C, H, W).

    Args:
        network: its attributes tell whether maps are (B, H, W, C), and the number of prefix tokens.
        output: feature maps, or tokens (B, N, C) of a square grid.

    Raises:
        UserError: the output is neither.
    """
    if isinstance(output, Tensor) and output.ndim == 4:
        own = (getattr(module, "output_fmt", None) for module in network.modules())
        return output.permute(0, 3, 1, 2) if any(fmt == "NHWC" for fmt in own) else output
    if isinstance(output, Tensor) and output.ndim == 3:
        before = next((m.num_prefix_tokens for m in network.modules() if hasattr(m, "num_prefix_tokens")), 0)
        tokens = output[:, before:].transpose(1, 2)
        side = isqrt(tokens.shape[2])
        if side * side == tokens.shape[2]:
            return tokens.unflatten(2, (side, side))
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise UserError(
        f"expected feature maps (B, C, H, W) from this module, got {shape}. Choose another part of the network."
    )
