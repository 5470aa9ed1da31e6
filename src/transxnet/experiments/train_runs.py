"""Train the runs of an experiment; finished runs are kept, interrupted ones are resumed."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from typing import Any, TypeVar

from rich.console import Console

from transxnet.experiments.experiment_folder import ExperimentFolder, PlannedRun
from transxnet.experiments.parallel_runs import train_in_processes
from transxnet.experiments.ray_runs import train_on_ray
from transxnet.experiments.training_process import TrainingJob
from transxnet.runs.run_folder import Run, is_first_process
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.training.train import train
from transxnet.utils.errors import Interrupted, advice, check_at_least
from transxnet.utils.locks import lock_folder
from transxnet.utils.optional_packages import require_package
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import duration

F = TypeVar("F", bound=ExperimentFolder)

LOGS = "logs"
"""Folder in that of the experiment for the logs of runs in processes of their own."""

_NOT_SHARED = (
    "its run folder is not on this machine. With --ray, --out must be on a file system that all machines share."
)

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
                f"{folder.num_finished()} of {folder.num_runs} runs finished. Resume with: {folder.resume_command}"
            ) from error
        finally:
            del os.environ[_OUT]


def check_parallel(parallel: int | None, ray: bool) -> None:
    """Raise UserError if the number of runs at the same time is invalid, or Ray is not installed."""
    if parallel is not None:
        check_at_least(1, parallel=parallel)
    if ray:
        require_package("ray", "transxnet[ray]", "--ray")


def train_runs(
    folder: ExperimentFolder,
    console: Console,
    after_each: Callable[[Mapping[str, str]], object] = lambda failures: None,
    *,
    parallel: int | None = None,
    ray: bool = False,
) -> dict[str, str]:
    """Train all runs that are not finished.

    Args:
        folder: the experiment.
        console: console to print to.
        after_each: called in the first process after each training, with the failures so far.
        parallel: number of runs to train at the same time, each in a process of its own; by default one after another
            in this process.
        ray: train them on a Ray cluster; ``parallel`` is then the number on each machine.

    Returns:
        Error messages of failed runs, by name of the run: those whose loss became non-finite, and with ``parallel`` or
        ``ray`` those of any other error.
    """
    if parallel is None and not ray:
        return _train_one_by_one(folder, console, after_each)
    return _train_together(folder, console, after_each, parallel, ray)


def train_or_resume(run: Run, options: Mapping[str, Any], console: Console) -> None:
    """Train a run, or resume it if it was interrupted."""
    if run.config_file.is_file():
        train(resume=run.path, console=console)
    else:
        train(out=run.path, console=console, **options)


def _train_one_by_one(
    folder: ExperimentFolder, console: Console, after_each: Callable[[Mapping[str, str]], object]
) -> dict[str, str]:
    failures: dict[str, str] = {}
    for planned in folder.planned_runs:
        if planned.finished:
            console.print(f"\n{planned.title}, already finished", style="dim", **PLAIN)
            continue
        console.print(f"\n{planned.title}", style="bold", **PLAIN)
        try:
            train_or_resume(planned.run, planned.options, console)
        except NonFiniteLoss as error:
            failures[planned.run.path.name] = str(error)
            console.print(f"row left blank: {error}", style="red", **PLAIN)
        if is_first_process():
            after_each(failures)
    return failures


def _train_together(
    folder: ExperimentFolder,
    console: Console,
    after_each: Callable[[Mapping[str, str]], object],
    parallel: int | None,
    ray: bool,
) -> dict[str, str]:
    pending = [planned for planned in folder.planned_runs if not planned.finished]
    jobs = [_job(folder, planned) for planned in pending]
    logs = folder.path / LOGS
    logs.mkdir(exist_ok=True)
    console.print(f"{folder.num_finished()} of {folder.num_runs} runs finished, logs in {logs}", **PLAIN)
    if not jobs:
        return {}
    trained = train_on_ray(jobs, parallel) if ray else train_in_processes(jobs, parallel or 1)
    found: dict[int, str] = {}
    done, start = folder.num_finished(), time.monotonic()
    with closing(trained):
        for number, message in trained:
            planned = pending[number]
            if planned.finished:
                done += 1
                passed = duration(time.monotonic() - start)
                text = f"{done} of {folder.num_runs} runs finished after {passed}: {planned.title}"
                console.print(text, style="bold", **PLAIN)
            else:
                found[number] = advice(message or _NOT_SHARED)
                console.print(f"failed: {planned.title}", style="red", **PLAIN)
                console.print(f"  {found[number]}\n  log: {jobs[number].log}", style="red", **PLAIN)
            failures = {pending[each].run.path.name: found[each] for each in sorted(found)}
            after_each(failures)
    return failures


def _job(folder: ExperimentFolder, planned: PlannedRun) -> TrainingJob:
    log = folder.path / LOGS / f"{planned.run.path.name}.log"
    return TrainingJob(str(planned.run.path), dict(planned.options), str(log), os.getcwd())
