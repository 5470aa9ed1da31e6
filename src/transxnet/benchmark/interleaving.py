"""The models of a benchmark taking turns, each in a process of its own."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from transxnet.benchmark.operator_profile import Operator
from transxnet.benchmark.settings import BenchmarkModel
from transxnet.benchmark.worker import Facts, Failure, serve


@dataclass
class Row:
    """What was measured of one model.

    Attributes:
        subject: the model and its settings.
        facts: parameters and multiply-adds, or None where the model could not be made.
        iterations: steps in each round.
        milliseconds: for one batch, in each round.
        peak_memory: bytes on the GPU, or of the whole process on the CPU.
        operators: those that take the longest, where a profile was asked for.
        failure: what went wrong, or None.
    """

    subject: BenchmarkModel
    facts: Facts | None = None
    iterations: int = 0
    milliseconds: list[float] = field(default_factory=list)
    peak_memory: int = 0
    operators: list[Operator] = field(default_factory=list)
    failure: Failure | None = None


def measure(rows: Sequence[Row], rounds: int, seconds: float, profile: bool, say: Callable[[str], Any]) -> None:
    """Fill in the rows.

    Args:
        rows: with nothing but their subject.
        rounds: how often each model's turn comes.
        seconds: that a turn takes.
        profile: whether to record the operators.
        say: takes a few words on what is being done.
    """
    workers = [Worker(row) for row in rows]
    try:
        for worker in workers:
            worker.start()
        get_ready(workers, seconds, say)
        for number, order in enumerate(turns(workers, rounds), 1):
            for worker in order:
                say(f"round {number} of {rounds}: {worker.row.subject.label}")
                if (figure := worker.ask("measure")) is not None:
                    worker.row.milliseconds.append(figure)
        for worker in workers:
            worker.row.peak_memory = worker.ask("peak_memory") or 0
        for worker in workers if profile else ():
            say(f"profiling {worker.row.subject.label}")
            worker.row.operators = worker.ask("profile") or []
    finally:
        for worker in workers:
            worker.dismiss()
        for worker in workers:
            worker.end()


def turns(items: Sequence[Any], rounds: int) -> Iterator[list[Any]]:
    """The order of each round: all of them, beginning one further than in the round before."""
    for number in range(rounds):
        first = number % len(items)
        yield [*items[first:], *items[:first]]


def get_ready(workers: Sequence["Worker"], seconds: float, say: Callable[[str], Any]) -> None:
    """Build, compile and warm up: on a GPU all at once, but one at a time where something is chosen by timing."""
    if workers[0].row.subject.settings.device == "cuda":
        say("building and compiling")
        _ask_all(workers, "build")
        _ask_all([worker for worker in workers if worker.row.subject.settings.compile == "default"], "compile")
    for worker in workers:
        if worker.row.failure and worker.row.failure.out_of_memory:
            worker.start()  # the others have given their memory back by now
        say(f"warming up {worker.row.subject.label}")
        if worker.row.facts is None:
            worker.ask("build")
        worker.row.iterations = worker.ask("warm_up", seconds) or 0


def _ask_all(workers: Sequence["Worker"], command: str) -> None:
    """Give all a command, and wait for all."""
    for worker in workers:
        worker.send(command)
    for worker in workers:
        worker.receive()


class Worker:
    """A model's process, seen from outside. After a failure, which its row then holds, it answers nothing any more."""

    def __init__(self, row: Row):
        self.row = row
        self.process: SpawnProcess | None = None
        self.connection: Connection
        self._asked = ""

    def start(self) -> None:
        """Start the process, or after a failure start anew."""
        self.row.failure = self.row.facts = None
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, self.row.subject))
        self.process.start()
        theirs.close()

    def ask(self, command: str, *arguments: Any) -> Any:
        """The answer to a command, or None after a failure."""
        self.send(command, *arguments)
        return self.receive()

    def send(self, command: str, *arguments: Any) -> None:
        """Give a command; its answer is to be received before the next."""
        if self.row.failure is None:
            self._asked = command
            try:
                self.connection.send((command, *arguments))
            except OSError:
                self._lost()

    def receive(self) -> Any:
        """The answer to the command given last, or None after a failure."""
        if self.row.failure is not None:
            return None
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            self._lost()
            return None
        asked, self._asked = self._asked, ""
        if isinstance(answer, Failure):
            self.row.failure = answer
            return None
        if asked == "build":
            self.row.facts = answer
        return answer

    def dismiss(self) -> None:
        """Let the process end, if it is not at work."""
        if self.process is not None:
            self.connection.close()

    def end(self) -> None:
        """Wait for the process to end; one that is still at work is ended."""
        if self.process is not None:
            self.process.join(timeout=0 if self._asked else 10)
            self.process.terminate()
            self.process.join()

    def _lost(self) -> None:
        assert self.process is not None
        self.process.join()
        status = self.process.exitcode
        how = f"was ended by signal {-status}" if status and status < 0 else f"ended with status {status}"
        why = ": the system may have run out of memory" if status == -9 else ""
        self.row.failure = Failure(f"the process {how}{why}", "")
