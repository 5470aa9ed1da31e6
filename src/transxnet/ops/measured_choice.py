"""Choose between an operator's Triton kernel and PyTorch's operators by measurement, and remember the choice.

At the first use of an operator on a GPU for a class of inputs (:func:`describe_inputs`), both implementations are
checked and timed (:mod:`transxnet.ops.operator_trial`). The faster correct one is used from then on; the outcome is
kept in the cache folder, in one file for each type of GPU and set of versions.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transxnet.utils.files import WriteError, cache_folder, write_atomic

ODD_SIZES = (1, 3, 5, 7)
"""Size classes below 8, so that kernel sizes are not merged; from 8 on, they are powers of two."""


@dataclass(frozen=True)
class Outcome:
    """What was measured for one implementation.

    Attributes:
        error: largest deviation from float64, relative to the largest value, over the output and all gradients.
        milliseconds: time of a forward pass, and in training of the backward pass.
        failure: the error message if it cannot run, else empty; error and time are then NaN.
    """

    error: float
    milliseconds: float
    failure: str = ""


@dataclass(frozen=True)
class KernelComparison:
    """What was measured for a class of inputs.

    Attributes:
        kernel: the Triton kernel.
        plain: PyTorch's operators.
        bound: largest error of a correct kernel.
    """

    kernel: Outcome
    plain: Outcome
    bound: float

    @property
    def defect(self) -> str:
        """Why the kernel cannot be used here; empty if it is correct."""
        if self.kernel.failure:
            return f"it fails: {self.kernel.failure}"
        if not self.kernel.error <= self.bound:  # NaN too
            return f"its results differ from float64 by {self.kernel.error:.1e}, allowed {self.bound:.1e}"
        return ""

    @cached_property
    def against_kernel(self) -> str:
        """Why PyTorch's operators are used instead of the kernel; empty if the kernel is used."""
        if not self.defect and self.kernel.milliseconds > self.plain.milliseconds:
            return f"it is slower here: {self._times}"
        return self.defect

    @cached_property
    def against_plain(self) -> str:
        """Why the kernel is used."""
        return f"slower here: {self._times}"

    @property
    def _times(self) -> str:
        return f"the kernel takes {self.kernel.milliseconds:.3f} ms, PyTorch's operators {self.plain.milliseconds:.3f}"


def describe_inputs(operator: str, arguments: Sequence[Any], training: bool) -> str:
    """Describe the class of a call, for example ``"op bfloat16 channels_last train 128x32x64x64 128x32x7x7 128x32"``.

    Calls of one class share a choice: sizes are rounded up to 1, 3, 5, 7, 8, 16, 32 and so on. torch.compile traces
    this function, and guards a size that is not constant by the limits of its class.

    Args:
        operator: its name.
        arguments: its arguments: tensors, of which the first determines type and layout, lists of tensors, None and
            flags.
        training: whether gradients are computed.
    """
    shapes = tuple(_shapes(argument) for argument in arguments)
    x = arguments[0]
    describe = _describe if torch.compiler.is_compiling() else _describe_cached
    return describe(operator, x.dtype, x.stride(), training, shapes)


def _shapes(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return argument.shape
    return tuple([t.shape for t in argument]) if isinstance(argument, list) else argument


def _describe(operator: str, dtype: torch.dtype, strides: Sequence[int], training: bool, shapes: tuple) -> str:
    words = [operator, _type_name(dtype), _layout(shapes[0], strides), "train" if training else "infer"]
    for entry in shapes:
        if entry is None or isinstance(entry, bool):
            words.append({None: "none", True: "yes", False: "no"}[entry])
        elif isinstance(entry, torch.Size):
            words.append("x".join([_size_class(size) for size in entry]))
        else:
            words.extend(["x".join([_size_class(size) for size in shape]) for shape in entry])
    return " ".join(words)


_describe_cached = cache(_describe)  # takes as long as the launch of a kernel


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _layout(shape: Sequence[int], strides: Sequence[int]) -> str:
    """Name the dimension of a four-dimensional tensor whose values are adjacent in memory."""
    for dimension, name in ((1, "channels_last"), (3, "contiguous"), (2, "transposed")):
        if strides[dimension] == 1 and shape[dimension] > 1:
            return name
    return "strided"


def _size_class(size: int) -> str:
    for bound in ODD_SIZES:
        if size <= bound:
            return f"{bound}"
    bound = ODD_SIZES[-1] + 1
    while bound < size:
        bound *= 2
    return f"{bound}"


class ChoiceStore:
    """The comparisons made on a type of device with a set of versions, in memory and in a file of the cache folder.

    Without a writable cache folder they are kept in memory only. If two processes write at once, one entry may be lost
    and is measured again.

    Args:
        facts: device, versions and other text that the choices depend on.
    """

    def __init__(self, facts: dict[str, str]):
        self._facts = facts
        self._name = f"operators-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}.json"
        self._known = self._read()
        self._skipped: set[str] = set()
        self._reported: set[str] = set()

    def find(self, inputs: str) -> KernelComparison | None:
        """Return the comparison for a class of inputs, or None if they have not been compared."""
        return self._known.get(inputs)

    def add(self, inputs: str, measure: Callable[[], KernelComparison]) -> KernelComparison | None:
        """Compare the implementations for a class of inputs and keep the result; warn of a defective kernel.

        Returns:
            None if there is not enough memory. This process does not try again, which would take seconds each time.
        """
        if inputs in self._skipped:
            return None
        try:
            comparison = measure()
        except torch.OutOfMemoryError:
            self._skipped.add(inputs)
            return None
        self._keep(inputs, comparison)
        self._report(inputs, comparison)
        return comparison

    def _keep(self, inputs: str, comparison: KernelComparison) -> None:
        self._known[inputs] = comparison
        with suppress(OSError, RuntimeError, WriteError):
            path = self._path()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            comparisons = {name: asdict(entry) for name, entry in (self._read() | self._known).items()}
            write_atomic(path, json.dumps(self._facts | {"comparisons": comparisons}, indent=1) + "\n")

    def _read(self) -> dict[str, KernelComparison]:
        """Read the file; one that is missing or damaged is written again."""
        try:
            entries = json.loads(self._path().read_text(encoding="utf-8"))["comparisons"]
            return {
                name: KernelComparison(Outcome(**entry["kernel"]), Outcome(**entry["plain"]), float(entry["bound"]))
                for name, entry in entries.items()
            }
        except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError):
            return {}

    def _path(self) -> Path:
        return cache_folder() / self._name  # a user without a home folder has none: RuntimeError

    def _report(self, inputs: str, comparison: KernelComparison) -> None:
        """Warn of a defective kernel, once for each operator."""
        operator = inputs.partition(" ")[0]
        if comparison.defect and operator not in self._reported:
            self._reported.add(operator)
            warnings.warn(
                f"The Triton kernel of {operator} cannot be used on {self._facts['device']}: {comparison.defect}. "
                f"PyTorch's operators are used instead. Please report it with the output of "
                f"'transxnet doctor --measure --model MODEL'.",
                stacklevel=2,
            )


@cache
def device_store(device: int | None) -> ChoiceStore:
    """Return the store of a GPU by its index, or of the CPU, where kernels run in Triton's interpreter."""
    kernels = Path(__file__).with_name("kernels")
    sources = b"".join(path.read_bytes() for path in sorted(kernels.glob("*_kernels.py")))
    return ChoiceStore(
        {
            "device": "cpu" if device is None else torch.cuda.get_device_name(device),
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
            "triton": version("triton"),
            "kernels": hashlib.sha256(sources).hexdigest()[:16],
        }
    )
