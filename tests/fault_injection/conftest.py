"""Fixtures for the fault injection tests, and a table of the injected faults."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fault_injection.runs import Server, Whole

_NOTE = "tried"
_TRIED: Counter[tuple[str, str, str]] = Counter()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server that starts trainings."""
    server = Server(tmp_path_factory.mktemp("torture"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def whole(server, tmp_path_factory) -> Callable[[str], Whole]:
    """Return the uninterrupted training of a kind."""
    made: dict[str, Whole] = {}

    def of(kind: str) -> Whole:
        if kind not in made:
            made[kind] = Whole.train(server, kind, tmp_path_factory.mktemp("whole"))
        return made[kind]

    return of


@pytest.fixture
def tried(request) -> Callable[[str, str, str], None]:
    """Record a training, a fault and the outcome for the table."""

    def note(training: str, fault: str, outcome: str) -> None:
        request.node.user_properties.append((_NOTE, (training, fault, outcome)))  # xdist collects it from workers

    return note


def pytest_runtest_logreport(report) -> None:
    """Collect the records of a test."""
    if report.when == "call":
        _TRIED.update(tuple(what) for name, what in report.user_properties if name == _NOTE)


@pytest.fixture
def out(tmp_path) -> Path:
    """The folder of an interrupted run."""
    return tmp_path / "run"


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table of injected faults."""
    if not _TRIED:
        return
    terminalreporter.section("faults injected")
    rows = [(training, fault, str(count), outcome) for (training, fault, outcome), count in sorted(_TRIED.items())]
    rows.insert(0, ("training", "fault", "cases", "outcome"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        terminalreporter.write_line("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)))
    terminalreporter.write_line(f"{sum(_TRIED.values())} cases")
