"""Profile a model by operator."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

OPERATORS = 12
STEPS = 3


@dataclass(frozen=True)
class Operator:
    """One line of a profile.

    Attributes:
        name: name of the operator.
        share: fraction of the time of all operators, from 0 to 1, without the operators that it calls.
        milliseconds: its own time in one step.
        calls: number of calls in one step.
    """

    name: str
    share: float
    milliseconds: float
    calls: float


def longest_operators(step: Callable[[], None], device: str) -> list[Operator]:
    """The operators in which a step spends most of its time, longest first; on a GPU, by GPU time."""
    cuda = device == "cuda"
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise it logs its stages and a missing GPU to stderr
    step()
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * cuda]) as recorded:
        for _ in range(STEPS):
            step()
        if cuda:
            torch.cuda.synchronize()
    rows, kernels = [], 0.0
    for event in recorded.key_averages():
        microseconds = event.self_device_time_total if cuda else event.self_cpu_time_total
        if event.device_type == DeviceType.CPU:  # its device time includes the kernels it launched
            rows.append((event.key, microseconds, event.count))
        elif not event.is_user_annotation:
            kernels += microseconds
    if cuda and (rest := kernels - sum(row[1] for row in rows)) > 0:
        rows.append(("kernels not launched by an operator", rest, 0))
    total = sum(row[1] for row in rows)
    rows = sorted((row for row in rows if row[1] > 0), key=lambda row: -row[1])[:OPERATORS]
    return [Operator(name, time / total, time / STEPS / 1e3, calls / STEPS) for name, time, calls in rows]
