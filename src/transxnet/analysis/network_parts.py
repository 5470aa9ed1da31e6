"""Places in a network that analyses look at, by name: its stages, and the parts of its last D-Mixer."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isqrt
from typing import Any

from torch import Tensor, nn

from transxnet.layers import DMixer
from transxnet.utils.errors import UserError, nearest

MIXER_PARTS = {"idconv": "local branch", "osra": "global branch", "ste": "their fusion"}
"""The places of Fig. 8 in the last D-Mixer, and what they are."""


@dataclass(frozen=True)
class Place:
    """A module whose output, or input, is looked at.

    Attributes:
        title: for people, such as "stage 4" or "IDConv, local branch".
        module: it.
    """

    title: str
    module: nn.Module


@dataclass
class Calls:
    """What a module was called with, and what it gave, one entry a call."""

    inputs: list[tuple[Any, ...]] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)


def named_places(network: nn.Module) -> dict[str, Place]:
    """The places that have a name, in the order in which an image passes them.

    Args:
        network: one of ours or timm's, in either form.

    Returns:
        "stage1" and so on, the stages of stride 4 and more (a transformer of one stride has one stage), and where there
        are D-Mixers "idconv", "osra" and "ste" of the last; what stands in a part's place has its name. Parts of the
        last stage's last D-Mixer come before that stage's end.
    """
    stages = _stages(network)
    places = {f"stage{i}": Place(f"stage {i}", module) for i, module in enumerate(stages, 1)}
    mixers = [module for module in network.modules() if isinstance(module, DMixer)]
    if not mixers:
        return places
    parts = {name: getattr(mixers[-1], name) for name in MIXER_PARTS}
    parts = {name: Place(f"{type(part).__name__}, {MIXER_PARTS[name]}", part) for name, part in parts.items()}
    last = places.popitem() if places else None
    return {**places, **parts, **({last[0]: last[1]} if last else {})}


def find_place(network: nn.Module, name: str = "") -> Place:
    """A place by name.

    Args:
        network: as in :func:`named_places`.
        name: one of :func:`named_places`; or a module's own name, such as "stages.2.blocks.0.mixer.idconv"; or nothing
            for the last stage.

    Raises:
        UserError: there is none of this name, or without a name, the network has no stages.
    """
    places = named_places(network)
    if not name:
        stages = [key for key in places if key.startswith("stage")]
        if not stages:
            raise UserError(
                f"{type(network).__name__} does not say what its stages are. Name one of its modules after a colon, "
                f"such as {', '.join(key for key, _ in list(network.named_children())[-3:])}."
            )
        return places[stages[-1]]
    if name in places:
        return places[name]
    modules = dict(network.named_modules())
    if name in modules:
        return Place(name, modules[name])
    why = " It has no D-Mixer." if name in MIXER_PARTS else ""
    raise UserError(
        f"{type(network).__name__} has no place {name!r}.{why}{nearest(name, [*places, *modules])} "
        f"Accepted: {', '.join(places)}, and the names of its modules."
    )


def _stages(network: nn.Module) -> list[nn.Module]:
    """The last module of each stride from 4 up, as timm's account of the network has them."""
    info: Any = getattr(network, "feature_info", None) or []
    entries = {entry["reduction"]: entry["module"] for entry in getattr(info, "info", info) if entry["reduction"] >= 4}
    modules = dict(network.named_modules())
    # timm's wrappers for dense features keep the network under another name, or its modules with underscores.
    found = [
        next((modules[n] for n in (name, f"model.{name}", name.replace(".", "_")) if n in modules), None)
        for name in entries.values()
    ]
    return [module for module in found if module is not None]


@contextmanager
def watched(*modules: nn.Module) -> Iterator[list[Calls]]:
    """Note what modules are called with and give, as long as the context lasts.

    Yields:
        For each module its calls, in the modules' order.
    """
    records = [Calls() for _ in modules]
    handles = []
    for module, record in zip(modules, records, strict=True):

        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any, record: Calls = record) -> None:
            record.inputs.append(inputs)
            record.outputs.append(output)

        handles.append(module.register_forward_hook(note))
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def as_maps(network: nn.Module, output: Any) -> Tensor:
    """The output of a network's module as feature maps (B, C, H, W).

    Args:
        network: which says whether its maps are (B, H, W, C), and what stands before its tokens (B, N, C).
        output: of the module.

    Raises:
        UserError: what is neither maps nor tokens of a square.
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
        f"an analysis of places in the image needs feature maps (B, C, H, W), and this module gives {shape}. Name "
        f"another place."
    )
