"""Which implementation an operator takes, and why it does not take the others.

``TRANSXNET_OPS=auto|triton|cpu|reference`` decides for all operators; without it, "auto". What "auto" takes on a CPU
was measured (benchmarks/README.md); on CUDA it takes the kernels, which have not been timed yet.
"""

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from transxnet.utils.errors import UserError

IMPLEMENTATIONS = ("triton", "cpu", "reference")
VARIABLE = "TRANSXNET_OPS"
HALF_AND_SINGLE = (torch.float32, torch.bfloat16, torch.float16)
OLDEST_GPU = (8, 0)  # bf16 arithmetic
MANY_KEYS = 512  # beyond, PyTorch's own attention, until the kernel has been timed there

_HAS_TRITON = find_spec("triton") is not None


@dataclass(frozen=True)
class Choice:
    """An implementation's name, and for each other one the reason against it."""

    implementation: str
    refused: dict[str, str]


def choose(operator: str, x: Tensor, keys: int | None = None) -> Choice:
    """The implementation that an operator takes.

    Args:
        operator: "dynamic_depthwise_conv2d", "multiscale_depthwise_conv2d" or "biased_attention".
        x: its first argument.
        keys: how many there are, for the attention.

    Raises:
        UserError: TRANSXNET_OPS names no implementation, or one that cannot take this input.
    """
    situation = Situation(
        wanted=os.environ.get(VARIABLE, "auto"),
        interpreting=os.environ.get("TRITON_INTERPRET") == "1",
        operator=operator,
        device=x.device.type,
        capability=_capability(x.device.index) if x.is_cuda else None,
        dtype=x.dtype,
        empty=x.numel() == 0,
        many_keys=keys is not None and keys > MANY_KEYS,
        learning=torch.is_grad_enabled(),
        compiling=torch.compiler.is_compiling(),
        exporting=torch.compiler.is_exporting(),
    )
    return _decide(situation) if situation.compiling else _decided(situation)


class Situation(NamedTuple):
    """All that a choice depends on."""

    wanted: str
    interpreting: bool
    operator: str
    device: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    empty: bool
    many_keys: bool
    learning: bool
    compiling: bool
    exporting: bool


def _decide(s: Situation) -> Choice:
    if s.wanted not in ("auto", *IMPLEMENTATIONS):
        raise UserError(f"{VARIABLE} must be auto, {', '.join(IMPLEMENTATIONS)}, got {s.wanted!r}")
    refused = {"triton": _why_triton_cannot(s), "cpu": _why_cpu_cannot(s), "reference": None}
    if s.wanted != "auto":
        if (reason := refused[s.wanted]) is not None:
            raise UserError(f"{VARIABLE}={s.wanted}, but {s.operator} cannot take it: {reason}; unset it, or use auto")
        return Choice(s.wanted, {name: f"{VARIABLE}={s.wanted}" for name in IMPLEMENTATIONS if name != s.wanted})
    refused["triton"] = refused["triton"] or _why_triton_should_not(s)
    refused["cpu"] = refused["cpu"] or _why_cpu_should_not(s)
    taken = next(name for name in IMPLEMENTATIONS if refused[name] is None)
    why = {name: refused[name] or "taken where no other is" for name in IMPLEMENTATIONS}
    return Choice(taken, {name: why[name] for name in IMPLEMENTATIONS if name != taken})


_decided = cache(_decide)  # an operator on a small map takes some 100 microseconds, and deciding 10 of them


def _why_triton_cannot(s: Situation) -> str | None:
    if not _HAS_TRITON:
        return "the package triton is not installed"
    if s.dtype not in HALF_AND_SINGLE:
        return f"its kernels compute float32, bfloat16 and float16, not {_name(s.dtype)}"
    if s.capability is not None and s.capability < OLDEST_GPU:
        return "it needs a GPU of compute capability 8.0 or later, this one has {}.{}".format(*s.capability)
    if s.capability is None and not s.interpreting:
        return f"its kernels run on CUDA, the tensor is on {s.device}"
    return None


def _why_triton_should_not(s: Situation) -> str | None:
    if s.capability is None:
        return "its interpreter is for tests"
    if s.exporting:
        return "an exported program must run where its kernels are not"
    if s.empty:
        return "there is nothing to compute"
    if s.many_keys:
        return f"it is made for few keys, and not measured with more than {MANY_KEYS}"
    return None


def _why_cpu_cannot(s: Situation) -> str | None:
    return None if s.device == "cpu" else f"it is for the CPU, the tensor is on {s.device}"


def _why_cpu_should_not(s: Situation) -> str | None:
    if s.compiling:
        return "a compiled or exported program gets the plain operators"
    if s.operator == "biased_attention":
        return None
    if not s.learning:
        return "it differs in the backward pass alone, and there is none"
    if s.dtype != torch.float32:
        return f"measured faster in float32 only, not in {_name(s.dtype)}"
    return None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@torch.compiler.assume_constant_result
def _capability(device: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
