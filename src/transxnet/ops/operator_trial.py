"""Check and time an operator's Triton kernel and PyTorch's operators on random tensors of given shapes and strides.

Output and gradients are compared with PyTorch's operators in float64, on the first and the last sample of the batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from transxnet.ops.measured_choice import KernelComparison, Outcome

BOUNDS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""Largest error of a correct kernel, relative to the largest value: a few roundings of the type."""

SECONDS = 0.02
"""Time to measure an implementation; a call takes 0.02 to 5 ms on a large GPU."""

Run = Callable[..., Tensor]
"""An operator with a given implementation: takes its name, then the operator's own arguments."""


def compare(
    run: Run, arguments: Sequence[Any], training: bool, time_step: Callable[[Callable[[], Any]], float] | None = None
) -> KernelComparison:
    """Compare the Triton kernel with PyTorch's operators.

    Args:
        run: the operator; its output has the shape and type of its first argument.
        arguments: its arguments, of which only types, shapes and strides are used. Tensors in lists are parameters,
            shared by the batch; others with the first argument's batch size have a part for each sample.
        training: whether gradients are computed.
        time_step: returns the milliseconds of a call; by default :func:`time_call`.

    Raises:
        torch.OutOfMemoryError: there is not enough memory to compare them.
    """
    time_step = time_step or time_call
    x = arguments[0]
    with torch.inference_mode(False), torch.set_grad_enabled(training), torch.autocast(x.device.type, enabled=False):
        trial = _Trial(run, arguments, training)
        plain = _measure(trial, "reference", time_step)
        kernel = _measure(trial, "triton", time_step)
    errors = [2 * plain.error] if not plain.failure else []
    return KernelComparison(kernel, plain, max(BOUNDS[x.dtype], *errors, 0.0))


def time_call(step: Callable[[], Any]) -> float:
    """Return the milliseconds of a call, including its launch, as the median of many."""
    from torch.utils.benchmark import Timer  # imports PyTorch's C++ extensions, which may print a warning

    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=SECONDS).median * 1e3


def _measure(trial: "_Trial", implementation: str, time_step: Callable[[Callable[[], Any]], float]) -> Outcome:
    try:
        error = trial.error(implementation)
        return Outcome(error, time_step(lambda: trial.results(implementation)))
    except torch.OutOfMemoryError:
        raise
    except Exception as failure:  # compilers raise errors of any type
        reason = next(iter(str(failure).strip().splitlines()), "")
        return Outcome(math.nan, math.nan, f"{type(failure).__name__}: {reason}")


class _Trial:
    """An operator on random tensors, with its exact results for the first and the last sample.

    The gradient of the output is zero for all other samples, so that gradients of shared parameters, which the whole
    batch is summed for, depend on these two only.
    """

    def __init__(self, run: Run, arguments: Sequence[Any], training: bool):
        self._run = run
        x = arguments[0]
        self._batch, self._samples = x.shape[0], sorted({0, x.shape[0] - 1})
        self._random = torch.Generator(x.device).manual_seed(0)  # the user's random numbers must not change
        self._arguments = _map_tensors(lambda t, _: self._random_like(t).requires_grad_(training), arguments)
        exact = _map_tensors(
            lambda t, shared: self._sampled(t.detach(), shared).double().requires_grad_(training), self._arguments
        )
        self._gradient = torch.zeros(x.shape, dtype=x.dtype, device=x.device)
        shape = (len(self._samples), *x.shape[1:])
        self._gradient[self._samples] = torch.randn(shape, generator=self._random, dtype=x.dtype, device=x.device)
        self._truths = self._results("reference", exact, self._gradient[self._samples].double())

    def results(self, implementation: str) -> list[Tensor]:
        """The output, and in training the gradient of each tensor."""
        return self._results(implementation, self._arguments, self._gradient)

    def error(self, implementation: str) -> float:
        """Largest deviation from the exact results, relative to the largest value of each tensor."""
        shared = [False, *(shared for _, shared in _tensors(self._arguments))]
        results = [self._sampled(t, flag) for t, flag in zip(self.results(implementation), shared, strict=False)]
        errors = [
            (result.double() - truth).abs().max() / truth.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
            for result, truth in zip(results, self._truths, strict=True)
        ]
        return torch.stack(errors).max().item()

    def _results(self, implementation: str, arguments: Sequence[Any], gradient: Tensor) -> list[Tensor]:
        out = self._run(implementation, *arguments)
        if not torch.is_grad_enabled():
            return [out]
        return [out, *torch.autograd.grad(out, [t for t, _ in _tensors(arguments)], gradient)]

    def _random_like(self, t: Tensor) -> Tensor:
        """Random values in the strides of a tensor, which may be a part of a larger one or overlap."""
        length = 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True))
        values = torch.randn(length, generator=self._random, dtype=t.dtype, device=t.device)
        return values.as_strided(t.shape, t.stride()).detach()

    def _sampled(self, t: Tensor, shared: bool) -> Tensor:
        return t[self._samples] if t.shape[0] == self._batch and not shared else t


def _map_tensors(function: Callable[[Tensor, bool], Any], arguments: Sequence[Any]) -> list[Any]:
    """Apply a function to each tensor of an operator's arguments, and to whether it is in a list."""
    return [
        function(argument, False)
        if isinstance(argument, Tensor)
        else [function(t, True) for t in argument]
        if isinstance(argument, (list, tuple))
        else argument
        for argument in arguments
    ]


def _tensors(arguments: Sequence[Any]) -> list[tuple[Tensor, bool]]:
    """Return the tensors of an operator's arguments in order, and whether each is in a list."""
    found: list[tuple[Tensor, bool]] = []
    _map_tensors(lambda t, shared: found.append((t, shared)), arguments)
    return found
