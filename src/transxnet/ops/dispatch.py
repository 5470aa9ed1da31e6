"""Which implementation an operator takes, and why it does not take the others.

``TRANSXNET_OPS=auto|triton|cpu|reference`` decides for all operators; without it, "auto". What "auto" takes was
measured: see benchmarks/README.md.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec

import torch
from torch import Tensor

from transxnet.errors import UserError

IMPLEMENTATIONS = ("triton", "cpu", "reference")
VARIABLE = "TRANSXNET_OPS"
HALF_AND_SINGLE = (torch.float32, torch.bfloat16, torch.float16)
OLDEST_GPU = (8, 0)  # bf16 arithmetic
MANY_KEYS = 512  # from here on PyTorch's own attention is as fast: benchmarks/README.md

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
    wanted = os.environ.get(VARIABLE, "auto")
    if wanted not in ("auto", *IMPLEMENTATIONS):
        raise UserError(f"{VARIABLE} must be auto, {', '.join(IMPLEMENTATIONS)}, got {wanted!r}")
    refused = {"triton": _why_triton_cannot(x), "cpu": _why_cpu_cannot(x), "reference": None}
    if wanted != "auto":
        if (reason := refused[wanted]) is not None:
            raise UserError(f"{VARIABLE}={wanted}, but {operator} cannot take it: {reason}; unset it, or use auto")
        return Choice(wanted, {name: f"{VARIABLE}={wanted}" for name in IMPLEMENTATIONS if name != wanted})
    refused["triton"] = refused["triton"] or _why_triton_should_not(x, keys)
    refused["cpu"] = refused["cpu"] or _why_cpu_should_not(operator, x)
    taken = next(name for name in IMPLEMENTATIONS if refused[name] is None)
    return Choice(taken, {name: refused[name] or "slower" for name in IMPLEMENTATIONS if name != taken})


def _why_triton_cannot(x: Tensor) -> str | None:
    if not _HAS_TRITON:
        return "the package triton is not installed"
    if x.dtype not in HALF_AND_SINGLE:
        return f"its kernels compute float32, bfloat16 and float16, not {str(x.dtype).removeprefix('torch.')}"
    if x.is_cuda:
        capability = _capability(x.device.index)
        if capability < OLDEST_GPU:
            return "it needs a GPU of compute capability 8.0 or later, this one has {}.{}".format(*capability)
    elif os.environ.get("TRITON_INTERPRET") != "1":
        return f"its kernels run on CUDA, the tensor is on {x.device.type}"
    return None


def _why_triton_should_not(x: Tensor, keys: int | None) -> str | None:
    if not x.is_cuda:
        return "its interpreter is for tests"
    if torch.compiler.is_exporting():
        return "an exported program must run where its kernels are not"
    if x.numel() == 0:
        return "there is nothing to compute"
    if keys is not None and keys > MANY_KEYS:
        return f"measured slower from {MANY_KEYS} keys on, here there are {keys}"
    return None


def _why_cpu_cannot(x: Tensor) -> str | None:
    return None if x.device.type == "cpu" else f"it is for the CPU, the tensor is on {x.device.type}"


def _why_cpu_should_not(operator: str, x: Tensor) -> str | None:
    if torch.compiler.is_compiling():
        return "a compiled or exported program gets the plain operators"
    if operator == "biased_attention":
        return None
    if not torch.is_grad_enabled():
        return "it differs in the backward pass alone, and there is none"
    if x.dtype != torch.float32:
        return f"measured faster in float32 only, not in {str(x.dtype).removeprefix('torch.')}"
    return None


@torch.compiler.assume_constant_result
def _capability(device: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
