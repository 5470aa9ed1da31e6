"""Train the runs of an experiment one after another; finished runs are kept, an interrupted one is resumed."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console

from transxnet.experiments.experiment_folder import ExperimentFolder, PlannedRun
from transxnet.runs.run_folder import is_first_process
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.training.train import train
from transxnet.utils.errors import Interrupted
from transxnet.utils.locks import lock_folder
from transxnet.utils.progress import PLAIN

F = TypeVar("F", bound=ExperimentFolder)

_OUT = "TRANSXNET_EXPERIMENT_OUT"


def started_folder(kind: type[F]) -> F | None:
    """Return the experiment that this process belongs to, if Lightning started it with the same command; else None."""
    return kind.read(os.environ[_OUT]) if _OUT in os.environ else None


@contextmanager
def open_experiment(folder: ExperimentFolder) -> Iterator[None]:
    """Create and lock the folder and write its plan; if interrupted, the message has the command to resume.

    Raises:
        Interrupted: stopped by the user or the system; the finished runs are kept.
    """
    first = is_first_process()
    if first:
        folder.path.mkdir(parents=True, exist_ok=True)
    with lock_folder(folder.path) if first else nullcontext():
        if first:
            folder.write()
        os.environ[_OUT] = str(folder.path)
        try:
            yield
        except (Interrupted, KeyboardInterrupt) as error:
            raise Interrupted(
                f"interrupted with {folder.num_finished()} of {folder.num_runs} runs finished. Resume with: "
                f"{folder.resume_command}"
            ) from error
        finally:
            del os.environ[_OUT]


def train_runs(
    folder: ExperimentFolder,
    console: Console,
    after_each: Callable[[Mapping[str, str]], object] = lambda failures: None,
) -> dict[str, str]:
    """Train all runs that are not finished.

    Args:
        folder: the experiment.
        console: console to print to.
        after_each: called in the first process after each training, with the failures so far.

    Returns:
        Error messages of the runs whose loss became non-finite, by name of the run.
    """
    failures: dict[str, str] = {}
    for planned in folder.planned_runs:
        if planned.finished:
            console.print(f"\n{planned.title}, already finished", style="dim", **PLAIN)
            continue
        console.print(f"\n{planned.title}", style="bold", **PLAIN)
        try:
            _train(planned, console)
        except NonFiniteLoss as error:
            failures[planned.run.path.name] = str(error)
            console.print(f"row left blank: {error}", style="red", **PLAIN)
        if is_first_process():
            after_each(failures)
    return failures


def _train(planned: PlannedRun, console: Console) -> None:
    if planned.run.config_file.is_file():
        train(resume=planned.run.path, console=console)
    else:
        train(out=planned.run.path, console=console, **planned.options)
