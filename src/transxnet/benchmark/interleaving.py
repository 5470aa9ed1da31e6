"""Interleaved measurement: in each round every model runs once, each in its own process."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from transxnet.benchmark.benchmark_result import BenchmarkRow
from transxnet.benchmark.worker import Failure, serve


def measure_interleaved(
    rows: Sequence[BenchmarkRow], rounds: int, seconds: float, profile: bool, report: Callable[[str], Any]
) -> None:
    """Measure all models, and fill in their rows.

    Args:
        rows: rows in which only the model is set.
        rounds: number of rounds.
        seconds: target length of a model's run in a round.
        profile: whether to record the operators.
        report: called with progress messages.
    """
    workers = [WorkerProcess(row) for row in rows]
    try:
        for worker in workers:
            worker.start()
        prepare(workers, seconds, report)
        for number, order in enumerate(rotated_orders(workers, rounds), 1):
            for worker in order:
                report(f"round {number} of {rounds}: {worker.row.model.label}")
                if (milliseconds := worker.ask("measure")) is not None:
                    worker.row.milliseconds.append(milliseconds)
        for worker in workers:
            worker.row.peak_memory = worker.ask("peak_memory") or 0
        for worker in workers if profile else ():
            report(f"profiling {worker.row.model.label}")
            worker.row.operators = worker.ask("profile") or []
    finally:
        for worker in workers:
            worker.close()
        for worker in workers:
            worker.stop()


def rotated_orders(items: Sequence[Any], rounds: int) -> Iterator[list[Any]]:
    """Iterate over the order of the items in each round: each round starts with the next item."""
    for number in range(rounds):
        first = number % len(items)
        yield [*items[first:], *items[:first]]


def prepare(workers: Sequence["WorkerProcess"], seconds: float, report: Callable[[str], Any]) -> None:
    """Build, compile and warm up: on a GPU in parallel, but one at a time where algorithms are chosen by timing."""
    if workers[0].row.model.settings.device == "cuda":
        report("building and compiling")
        _ask_all(workers, "build")
        for worker in workers:
            if worker.row.model.settings.compile is not None:
                worker.ask("choose_operators")
        _ask_all([worker for worker in workers if worker.row.model.settings.compile == "default"], "compile")
    for worker in workers:
        if worker.row.failure and worker.row.failure.out_of_memory:
            worker.start()  # the others have freed their memory by now
        report(f"warming up {worker.row.model.label}")
        if worker.row.facts is None:
            worker.ask("build")
        worker.row.iterations = worker.ask("warm_up", seconds) or 0


def _ask_all(workers: Sequence["WorkerProcess"], command: str) -> None:
    """Send a command to all workers, and wait for all."""
    for worker in workers:
        worker.send(command)
    for worker in workers:
        worker.receive()


class WorkerProcess:
    """The process that measures one model. After a failure, which its row records, its responses are None."""

    def __init__(self, row: BenchmarkRow):
        self.row = row
        self.process: SpawnProcess | None = None
        self.connection: Connection
        self._pending = ""

    def start(self) -> None:
        """Start the process, or restart it after a failure."""
        self.row.failure = self.row.facts = None
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.connection, worker_end = context.Pipe()
        self.process = context.Process(target=serve, args=(worker_end, self.row.model))
        self.process.start()
        worker_end.close()

    def ask(self, command: str, *arguments: Any) -> Any:
        """Return the response to a command, or None after a failure."""
        self.send(command, *arguments)
        return self.receive()

    def send(self, command: str, *arguments: Any) -> None:
        """Send a command; receive its response before sending the next."""
        if self.row.failure is None:
            self._pending = command
            try:
                self.connection.send((command, *arguments))
            except OSError:
                self._record_exit()

    def receive(self) -> Any:
        """Receive the response to the last command, or None after a failure."""
        if self.row.failure is not None:
            return None
        try:
            response = self.connection.recv()
        except (EOFError, OSError):
            self._record_exit()
            return None
        command, self._pending = self._pending, ""
        if isinstance(response, Failure):
            self.row.failure = response
            return None
        if command == "build":
            self.row.facts = response
        return response

    def close(self) -> None:
        """Ask the process to end, unless it is busy."""
        if self.process is not None:
            self.connection.close()

    def stop(self) -> None:
        """Wait for the process to end; terminate it if it is still busy."""
        if self.process is not None:
            self.process.join(timeout=0 if self._pending else 10)
            self.process.terminate()
            self.process.join()

    def _record_exit(self) -> None:
        assert self.process is not None
        self.process.join()
        status = self.process.exitcode
        how = f"was killed by signal {-status}" if status and status < 0 else f"exited with status {status}"
        why = ": the system may have run out of memory" if status == -9 else ""
        self.row.failure = Failure(f"the process {how}{why}", "")
