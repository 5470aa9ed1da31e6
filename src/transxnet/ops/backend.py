"""Choose the implementation of an operator, and explain why the others are not used.

``TRANSXNET_OPS=auto|triton|c|cpu|reference`` applies to all operators; the default is "auto". On a CPU its choices are
based on measurements (benchmarks/README.md); on CUDA it uses the Triton kernels, which have not been timed yet.
"""

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from transxnet.ops.kernels.c_library import why_unavailable
from transxnet.utils.errors import UserError

IMPLEMENTATIONS = ("triton", "c", "cpu", "reference")
ENV_VARIABLE = "TRANSXNET_OPS"
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
C_DTYPES = (torch.float32, torch.bfloat16)
MIN_CAPABILITY = (8, 0)  # required for bf16 arithmetic
MAX_KEYS = 512  # with more keys PyTorch's own attention is used, until the kernel has been timed there

_HAS_TRITON = find_spec("triton") is not None


@dataclass(frozen=True)
class Choice:
    """The chosen implementation, and the reason against each of the others."""

    implementation: str
    refused: dict[str, str]


def choose(operator: str, x: Tensor, keys: int | None = None) -> Choice:
    """Choose the implementation of an operator.

    Args:
        operator: "dynamic_depthwise_conv2d", "multiscale_depthwise_conv2d" or "biased_attention".
        x: its first argument.
        keys: number of keys, for attention.

    Raises:
        UserError: TRANSXNET_OPS names no implementation, or one that does not support this input.
    """
    conditions = Conditions(
        requested=os.environ.get(ENV_VARIABLE, "auto"),
        interpreting=os.environ.get("TRITON_INTERPRET") == "1",
        operator=operator,
        device=x.device.type,
        capability=_capability(x.device.index) if x.is_cuda else None,
        dtype=x.dtype,
        empty=not torch.jit.is_tracing() and x.numel() == 0,  # traced, the size is a tensor
        many_keys=keys is not None and keys > MAX_KEYS,
        grad_enabled=torch.is_grad_enabled(),
        compiling=torch.compiler.is_compiling(),
        tracing=torch.jit.is_tracing(),
        exporting=torch.compiler.is_exporting(),
        transforming=is_transforming(),
        observed=is_observed(),
        no_c_kernel=why_unavailable() if x.device.type == "cpu" else "",
    )
    return _decide(conditions) if conditions.compiling else _decide_cached(conditions)


class Conditions(NamedTuple):
    """Everything that a choice depends on."""

    requested: str
    interpreting: bool
    operator: str
    device: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    empty: bool
    many_keys: bool
    grad_enabled: bool
    compiling: bool
    tracing: bool
    exporting: bool
    transforming: bool
    observed: bool
    no_c_kernel: str


def _decide(s: Conditions) -> Choice:
    if s.requested not in ("auto", *IMPLEMENTATIONS):
        raise UserError(f"{ENV_VARIABLE} must be auto, {', '.join(IMPLEMENTATIONS)}, got {s.requested!r}")
    refused = {"triton": _triton_unsupported(s), "c": _c_unsupported(s), "cpu": _cpu_unsupported(s), "reference": None}
    if s.requested != "auto":
        setting = f"{ENV_VARIABLE}={s.requested}"
        if (reason := refused[s.requested]) is not None:
            raise UserError(f"{setting} is not supported by {s.operator}: {reason}. Unset it, or use auto.")
        return Choice(s.requested, {name: setting for name in IMPLEMENTATIONS if name != s.requested})
    refused["triton"] = refused["triton"] or _triton_unfavorable(s)
    refused["c"] = refused["c"] or _c_unfavorable(s)
    refused["cpu"] = refused["cpu"] or _cpu_unfavorable(s)
    taken = next(name for name in IMPLEMENTATIONS if refused[name] is None)
    why = {name: refused[name] or "fallback if no other implementation applies" for name in IMPLEMENTATIONS}
    return Choice(taken, {name: why[name] for name in IMPLEMENTATIONS if name != taken})


_decide_cached = cache(_decide)  # a decision takes 10 microseconds, an operator on a small map about 100


def _triton_unsupported(s: Conditions) -> str | None:
    if not _HAS_TRITON:
        return "the package triton is not installed"
    if s.dtype not in KERNEL_DTYPES:
        return f"its kernels compute float32, bfloat16 and float16, not {_dtype_name(s.dtype)}"
    if s.capability is not None and s.capability < MIN_CAPABILITY:
        return "it needs a GPU of compute capability 8.0 or later, this one has {}.{}".format(*s.capability)
    if s.capability is None and not s.interpreting:
        return f"its kernels run on CUDA, the tensor is on {s.device}"
    return None


def _triton_unfavorable(s: Conditions) -> str | None:
    if s.capability is None:
        return "its interpreter is for tests"
    if s.exporting:
        return "exported programs cannot contain its kernels"
    if s.transforming:
        return "its operators support neither torch.func nor forward-mode differentiation"
    if s.empty:
        return "the input is empty"
    if s.many_keys:
        return f"it is designed for few keys and not benchmarked with more than {MAX_KEYS}"
    return None


def _c_unsupported(s: Conditions) -> str | None:
    if s.operator == "biased_attention":
        return "it has no C kernel"
    if s.device != "cpu":
        return f"it supports CPUs only, the tensor is on {s.device}"
    if s.no_c_kernel:
        return s.no_c_kernel
    if s.dtype not in C_DTYPES:
        return f"its kernel computes float32 and bfloat16, not {_dtype_name(s.dtype)}"
    if s.empty:
        return "the input is empty"
    return None


def _c_unfavorable(s: Conditions) -> str | None:
    if s.exporting or s.tracing:
        return "exported and traced programs cannot contain its kernel"
    if s.transforming:
        return "its operator supports neither torch.func nor forward-mode differentiation"
    if s.observed:
        return "a dispatch mode is active, such as a FLOP counter, which knows PyTorch's operators only"
    return None


def _cpu_unsupported(s: Conditions) -> str | None:
    return None if s.device == "cpu" else f"it supports CPUs only, the tensor is on {s.device}"


def _cpu_unfavorable(s: Conditions) -> str | None:
    if s.transforming and s.operator == "biased_attention":
        return "PyTorch's fused attention supports neither torch.func nor forward-mode differentiation"
    if s.compiling:
        return "compiled and exported programs use the plain operators"
    if s.operator == "biased_attention":
        return None
    if s.tracing:
        return "traced programs use the plain operators"
    if not s.grad_enabled:
        return "it changes only the backward pass, which is not computed"
    if s.dtype != torch.float32:
        return f"it is faster in float32 only, not in {_dtype_name(s.dtype)}"
    return None


def is_transforming() -> bool:
    """Whether a transform of ``torch.func`` or forward-mode differentiation is active; PyTorch has no public check."""
    return torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0


def is_observed() -> bool:
    """Whether a dispatch mode is active, such as a FLOP counter; PyTorch has no public check."""
    return not torch.compiler.is_compiling() and _get_current_dispatch_mode() is not None


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@torch.compiler.assume_constant_result
def _capability(device: int) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
