"""Choose the implementation of an operator, and explain why the others are not used.

``TRANSXNET_OPS=auto|triton|c|cpu|reference`` applies to all operators; the default is "auto". On a CPU its choices
follow rules based on measurements (benchmarks/README.md). On CUDA it measures: at the first use for a class of inputs,
the Triton kernel is compared with PyTorch's operators (:mod:`transxnet.ops.measured_choice`).
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from transxnet.ops.kernels.c_library import why_unavailable
from transxnet.ops.measured_choice import KernelComparison, describe_inputs, device_store
from transxnet.ops.operator_trial import Run, compare
from transxnet.utils.errors import UserError

IMPLEMENTATIONS = ("triton", "c", "cpu", "reference")
ENV_VARIABLE = "TRANSXNET_OPS"
KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
C_DTYPES = (torch.float32, torch.bfloat16)
MIN_CAPABILITY = (8, 0)  # required for bf16 arithmetic

_HAS_TRITON = find_spec("triton") is not None


@dataclass(frozen=True)
class Choice:
    """The chosen implementation, and the reason against each of the others."""

    implementation: str
    refused: dict[str, str]


@dataclass(frozen=True)
class RecordedChoice:
    """A choice made while :func:`record_choices` is active.

    Attributes:
        operator: its name.
        shape: shape of its first argument.
        inputs: the class of its inputs.
        choice: the chosen implementation.
        comparison: what was measured for this class, or None.
    """

    operator: str
    shape: tuple[int, ...]
    inputs: str
    choice: Choice
    comparison: KernelComparison | None


_records: list[RecordedChoice] | None = None


@contextmanager
def record_choices() -> Iterator[list[RecordedChoice]]:
    """Record the choice of every call of an operator in eager mode."""
    global _records
    before, _records = _records, []
    try:
        yield _records
    finally:
        _records = before


def choose(operator: str, *arguments: Any, run: Run | None = None) -> Choice:
    """Choose the implementation of an operator.

    Args:
        operator: "dynamic_depthwise_conv2d", "multiscale_depthwise_conv2d" or "biased_attention".
        *arguments: its arguments, the input first.
        run: the operator with a given implementation, to measure it on CUDA at its first use; by default nothing is
            measured.

    Raises:
        UserError: TRANSXNET_OPS names no implementation, or one that does not support this input.
    """
    x = arguments[0]
    conditions = _conditions(operator, x)
    if conditions.compiling:
        return _decide(conditions, _remembered(conditions, arguments))
    comparison = _measured(conditions, arguments, run)
    choice = _decide_cached(conditions, _reasons(comparison))
    if _records is not None:
        inputs = describe_inputs(operator, arguments, _needs_gradients(arguments))
        _records.append(RecordedChoice(operator, tuple(x.shape), inputs, choice, comparison))
    return choice


def takes_c_kernel(operator: str, x: Tensor) -> bool:
    """Whether an operator that has a C kernel and PyTorch's operators, but no Triton kernel, takes the C kernel."""
    s = _conditions(operator, x)
    return s.requested in ("auto", "c") and _c_unsupported(s) is None and _c_unfavorable(s) is None


def _conditions(operator: str, x: Tensor) -> "Conditions":
    return Conditions(
        requested=os.environ.get(ENV_VARIABLE, "auto"),
        interpreting=os.environ.get("TRITON_INTERPRET") == "1",
        operator=operator,
        device=x.device.type,
        capability=_capability(x.device.type, x.device.index),
        dtype=x.dtype,
        empty=not torch.jit.is_tracing() and x.numel() == 0,  # traced, the size is a tensor
        grad_enabled=torch.is_grad_enabled(),
        compiling=torch.compiler.is_compiling(),
        tracing=torch.jit.is_tracing(),
        exporting=torch.compiler.is_exporting(),
        transforming=is_transforming(),
        observed=is_observed(),
        no_c_kernel=why_unavailable() if x.device.type == "cpu" else "",
    )


class Conditions(NamedTuple):
    """Everything that a choice depends on."""

    requested: str
    interpreting: bool
    operator: str
    device: str
    capability: tuple[int, int] | None
    dtype: torch.dtype
    empty: bool
    grad_enabled: bool
    compiling: bool
    tracing: bool
    exporting: bool
    transforming: bool
    observed: bool
    no_c_kernel: str


Reasons = tuple[str, str]
"""Why the Triton kernel is not used, empty if it is, and why PyTorch's operators are not used."""

NOT_MEASURED: Reasons = (
    "not measured yet for these inputs: it is at their first use, or by transxnet doctor --measure; never in compiled, "
    "traced or captured programs, nor with --deterministic",
    "",
)


def _reasons(comparison: KernelComparison | None) -> Reasons:
    return NOT_MEASURED if comparison is None else (comparison.against_kernel, comparison.against_plain)


def _is_measured(s: Conditions) -> bool:
    """Whether the choice between the Triton kernel and PyTorch's operators depends on a measurement."""
    return s.requested == "auto" and _triton_unsupported(s) is None and _triton_unfavorable(s) is None


def _measured(s: Conditions, arguments: tuple, run: Run | None) -> KernelComparison | None:
    """Return what was measured for these inputs; measure now if that is possible here."""
    if not _is_measured(s):
        return None
    training = _needs_gradients(arguments)
    inputs, store = describe_inputs(s.operator, arguments, training), device_store(arguments[0].device.index)
    found = store.find(inputs)
    if found is None and run is not None and not _is_fixed(s):
        return store.add(inputs, partial(compare, run, arguments, training))
    return found


def _is_fixed(s: Conditions) -> bool:
    """Whether nothing may be measured now, because the calls are recorded or must be reproducible."""
    capturing = s.device == "cuda" and torch.cuda.is_current_stream_capturing()
    return s.tracing or s.observed or capturing or torch.are_deterministic_algorithms_enabled()


def _remembered(s: Conditions, arguments: tuple) -> Reasons:
    """Return the remembered reasons, for code that torch.compile traces."""
    if not _is_measured(s):
        return NOT_MEASURED
    inputs = describe_inputs(s.operator, arguments, _needs_gradients(arguments))
    return _remembered_reasons(arguments[0].device.index, inputs)


@torch.compiler.assume_constant_result
def _remembered_reasons(device: int | None, inputs: str) -> Reasons:
    comparison = device_store(device).find(inputs)
    if comparison is None:
        _warn_not_measured()
    return _reasons(comparison)


@cache
def _warn_not_measured() -> None:
    warnings.warn(
        "Operators in compiled code have not been measured on this GPU, so PyTorch's are used instead of our kernels. "
        "Run 'transxnet doctor --measure --model MODEL' once, with the same mode, image size, batch size and type.",
        stacklevel=2,
    )


def _needs_gradients(arguments: tuple) -> bool:
    tensors = [t for argument in arguments for t in (argument if isinstance(argument, (list, tuple)) else [argument])]
    return torch.is_grad_enabled() and any(isinstance(t, Tensor) and t.requires_grad for t in tensors)


def _decide(s: Conditions, measured: Reasons) -> Choice:
    if s.requested not in ("auto", *IMPLEMENTATIONS):
        raise UserError(f"{ENV_VARIABLE} must be auto, {', '.join(IMPLEMENTATIONS)}, got {s.requested!r}")
    refused = {"triton": _triton_unsupported(s), "c": _c_unsupported(s), "cpu": _cpu_unsupported(s), "reference": None}
    if s.requested != "auto":
        setting = f"{ENV_VARIABLE}={s.requested}"
        if (reason := refused[s.requested]) is not None:
            raise UserError(f"{setting} is not supported by {s.operator}: {reason}. Unset it, or use auto.")
        return Choice(s.requested, {name: setting for name in IMPLEMENTATIONS if name != s.requested})
    against_kernel, against_plain = measured
    refused["triton"] = refused["triton"] or _triton_unfavorable(s) or against_kernel or None
    refused["c"] = refused["c"] or _c_unfavorable(s)
    refused["cpu"] = refused["cpu"] or _cpu_unfavorable(s)
    taken = next(name for name in IMPLEMENTATIONS if refused[name] is None)
    fallback = "fallback if no other implementation applies"
    if taken == "triton":
        fallback = against_plain
    why = {name: refused[name] or fallback for name in IMPLEMENTATIONS}
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
def _capability(device: str, index: int | None) -> tuple[int, int] | None:
    return torch.cuda.get_device_capability(index) if device == "cuda" else None
