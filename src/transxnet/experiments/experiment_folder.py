"""The folder of an experiment of many runs: a plan file, and a run folder for each training."""

import json
import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from transxnet.runs.run_folder import Run, is_first_process
from transxnet.utils.errors import UserError
from transxnet.utils.files import next_free_path, safe_file_name, write_atomic
from transxnet.utils.locks import LOCK_FILE
from transxnet.utils.text_files import read_yaml


@dataclass(frozen=True)
class PlannedRun:
    """One training of an experiment.

    Attributes:
        run: its run folder, which may not exist yet.
        title: description that is printed before it starts.
        options: arguments of ``train``, without ``out``.
    """

    run: Run
    title: str
    options: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the training is finished."""
        return is_finished(self.run)


def is_finished(run: Run) -> bool:
    """Return whether a run is finished: the report is written last."""
    return run.report_file.is_file()


@dataclass(frozen=True)
class ExperimentFolder(ABC):
    """The plan of an experiment, and its folder. Subclasses add the fields that the plan file holds.

    Attributes:
        path: path of the folder.
    """

    path: Path

    COMMAND: ClassVar[str]
    """Name of the command."""
    KIND: ClassVar[str]
    """Name of the experiment in messages, with its article."""
    PLAN_FILE: ClassVar[str]
    """Name of the plan file."""

    @property
    @abstractmethod
    def planned_runs(self) -> Sequence[PlannedRun]:
        """All runs, in the order in which they are trained."""

    @classmethod
    @abstractmethod
    def from_plain(cls, path: Path, content: dict[str, Any]) -> Self:
        """Create the plan from the content of its file; any error of plain Python means that it is damaged."""

    def num_finished(self) -> int:
        """Number of finished runs."""
        return sum(planned.finished for planned in self.planned_runs)

    @property
    def num_runs(self) -> int:
        """Number of runs."""
        return len(self.planned_runs)

    @property
    def resume_command(self) -> str:
        """Shell command that resumes the experiment."""
        return f"transxnet {self.COMMAND} --resume {shlex.quote(str(self.path))}"

    def write(self) -> None:
        """Write the plan."""
        content = {name: value for name, value in asdict(self).items() if name != "path"}
        plain = json.loads(json.dumps(content))  # tuples become lists, which are readable in YAML
        write_atomic(self.path / self.PLAN_FILE, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read the plan of a folder.

        Raises:
            UserError: the path is not the folder of such an experiment, or its plan is damaged.
        """
        path = Path(path)
        file = path / cls.PLAN_FILE
        if not file.is_file():
            raise UserError(f"{path} is not the folder of {cls.KIND}: {cls.PLAN_FILE} is missing.")
        try:
            folder = cls.from_plain(path, read_yaml(file))
            for planned in folder.planned_runs:
                own = planned.run.path
                if own != path / safe_file_name(own.name):  # the run is written there
                    raise ValueError(f"{os.path.relpath(own, path)!r} is not a valid name of a run folder")
            return folder
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{file} is damaged or not part of {cls.KIND}: {error}") from error

    @classmethod
    def choose_path(cls, out: str | Path | None, name: str, data: str | Path) -> Path:
        """Return the path of a new experiment's folder.

        Args:
            out: folder as given; by default runs/NAME-DATA-NUMBER.
            name: first part of the default name.
            data: training data.

        Raises:
            UserError: the folder is not empty, or several processes would choose one.
        """
        first, where = is_first_process(), Path(data)
        if out is None and not first:
            raise UserError("several processes need the same output folder. Use --out.")
        stem = f"{name}-{where.resolve().name if where.exists() else str(data).replace('/', '-')}"
        path = Path(out) if out is not None else next_free_path(Path("runs"), safe_file_name(stem))
        if first and (path / cls.PLAN_FILE).exists():
            raise UserError(
                f"{path} already contains {cls.KIND}. Resume it with --resume {path}, or choose another --out."
            )
        if first and path.exists() and (not path.is_dir() or set(os.listdir(path)) - {LOCK_FILE}):
            raise UserError(f"{path} is not empty. Choose another --out.")
        return path


def stored_data(data: str | Path) -> str:
    """Return the data as stored in a plan: the absolute path of a file or folder, or the name of a sample."""
    where = Path(data)
    return str(where.resolve()) if where.exists() else str(data)


def merge_environments(runs: Sequence[Run]) -> dict[str, str]:
    """Return the versions, the hardware and the precision of the runs, with all values where runs differ.

    Without the dates, so that equal experiments have equal files.
    """
    environments = [
        run.read_environment()["environment"] | {"precision": str(run.read_config().precision)} for run in runs
    ]
    names = dict.fromkeys(name for each in environments for name in each if name != "date")
    return {name: " and ".join(dict.fromkeys(each[name] for each in environments if name in each)) for name in names}


def shared_options(options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that have the same value in all trainings; none without a training."""
    first = options[0] if options else {}
    return {name: value for name, value in first.items() if all(each[name] == value for each in options)}
