"""Train several runs at the same time on this machine, each in a process of its own."""

import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

from transxnet.experiments.training_process import TrainingJob, TrainingProcess

POLL_INTERVAL = 0.1
"""Seconds between checks of the processes."""


def train_in_processes(jobs: Sequence[TrainingJob], parallel: int) -> Generator[tuple[int, str | None], None, None]:
    """Train runs, several at the same time.

    On Ctrl-C or SIGTERM each training saves a checkpoint and stops; on a second signal it stops at once.

    Args:
        jobs: the trainings, in the order in which they start.
        parallel: number of trainings at the same time.

    Yields:
        The number of each training that has ended, with its error message if it has failed.

    Raises:
        KeyboardInterrupt: a signal has stopped the trainings.
    """
    waiting, free = list(enumerate(jobs)), split_machine(parallel)
    running: list[tuple[int, TrainingProcess, dict[str, str]]] = []
    with terminate_as_interrupt():
        try:
            while waiting or running:
                while waiting and free:
                    number, job = waiting.pop(0)
                    environment = free.pop(0)
                    running.append((number, TrainingProcess(job, environment), environment))
                for each in [each for each in running if not each[1].running]:
                    number, process, environment = each
                    running.remove(each)
                    free.append(environment)
                    yield number, process.wait()
                time.sleep(POLL_INTERVAL)
        finally:
            stop_processes([process for _, process, _ in running])


def stop_processes(processes: Sequence[TrainingProcess]) -> None:
    """Stop trainings after their current update, and wait for them; a second signal stops them at once."""
    for process in processes:
        process.interrupt()
    for process in processes:
        with suppress(KeyboardInterrupt):
            process.wait()
            continue
        stop_processes(processes)


def split_machine(parallel: int) -> list[dict[str, str]]:
    """Return the environment of each of several processes: the GPUs in turn, and an equal share of the threads.

    Threads per process that the user has set as OMP_NUM_THREADS are kept.
    """
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, torch.get_num_threads() // parallel))
    gpus = _visible_gpus()
    return [
        {"OMP_NUM_THREADS": threads} | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})
        for i in range(parallel)
    ]


def _visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count, visible = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(count)] if visible is None else visible.split(",")[:count]


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, too, within the context; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
