"""Run cases in a process with limited time and memory, which may crash or hang without affecting the tests."""

import json
import os
import resource
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

PROCESSOR, CLOCK = 20, 600
"""CPU time and wall time limits of a case in seconds: a case must not fail because the machine is busy."""

MEMORY = 4 << 30
"""Bytes a case may allocate on top of the process: the largest accepted image takes three."""

Case = TypeVar("Case")


def run_limited(cases: Sequence[Case], attempt: Callable[[Case], str], memory: int = MEMORY) -> list[str]:
    """Run each case; returns what ``attempt`` returns, or how its process ended.

    The latter is "hang" after a timeout, "crash" with the signal number, or "error" with the exception of ``attempt``.
    """
    outcomes: list[str] = []
    while len(outcomes) < len(cases):
        told, end = _child(cases[len(outcomes) :], attempt, memory)
        outcomes += told
        if len(outcomes) < len(cases):
            outcomes.append("hang" if end in (signal.SIGPROF, signal.SIGALRM) else f"crash by signal {end}")
    return outcomes


def outcome_table(kinds: Sequence[str], outcomes: Sequence[str]) -> str:
    """The number of cases by kind and outcome, as text."""
    counts = Counter(zip(kinds, outcomes, strict=True))
    lines = [f"{kind:<28} {outcome:<40} {count:>6}" for (kind, outcome), count in sorted(counts.items())]
    return "\n".join([*lines, f"{'all':<69} {len(kinds):>6}"])


def _child(cases: Sequence[Case], attempt: Callable[[Case], str], memory: int) -> tuple[list[str], int]:
    """The outcomes until the process ended, and the signal that ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(cases, attempt, memory, writing)
    os.close(writing)
    with os.fdopen(reading) as lines:
        told = [json.loads(line) for line in lines if line.endswith("\n")]
    return told, os.WTERMSIG(os.waitpid(child, 0)[1])


def _work(cases: Sequence[Case], attempt: Callable[[Case], str], memory: int, writing: int) -> None:
    with open("/proc/self/statm") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff writes to stderr
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    for case in cases:
        signal.setitimer(signal.ITIMER_PROF, PROCESSOR)
        signal.setitimer(signal.ITIMER_REAL, CLOCK)
        try:
            outcome = attempt(case)
        except BaseException as error:
            outcome = f"error: {type(error).__name__}: {error}"[:200]
        os.write(writing, (json.dumps(outcome) + "\n").encode())
    os._exit(0)
