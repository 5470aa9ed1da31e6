"""The folder of a run: what lies where."""

import csv
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from transxnet.runs.config import TrainConfig
from transxnet.runs.task_configs import config_from_dict
from transxnet.utils.environment import collect_environment
from transxnet.utils.errors import UserError
from transxnet.utils.files import is_partial_file, remove_partial_files, write_whole
from transxnet.utils.locks import DEFAULT_ADVICE, LOCK_FILE, lock_folder
from transxnet.utils.text_files import read_json, read_yaml

_OWN = (
    "config.yaml", "environment.json", "split.csv", "metrics.csv", "last.ckpt", "previous.ckpt", "best.ckpt",
    "model.safetensors", "model.json", "results.json", "predictions.csv", "detections.json", "report.html",
    "tensorboard",
)  # fmt: skip


def is_first_process() -> bool:
    """Whether this process is the one that writes files, of those that train together."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path

    config_file = property(lambda self: self.path / "config.yaml")
    environment_file = property(lambda self: self.path / "environment.json")
    split_file = property(lambda self: self.path / "split.csv")
    metrics_file = property(lambda self: self.path / "metrics.csv")
    last_checkpoint = property(lambda self: self.path / "last.ckpt")
    previous_checkpoint = property(lambda self: self.path / "previous.ckpt")
    best_checkpoint = property(lambda self: self.path / "best.ckpt")
    weights_file = property(lambda self: self.path / "model.safetensors")
    model_file = property(lambda self: self.path / "model.json")
    stored_split = property(lambda self: self.split_file if self.split_file.is_file() else None)
    results_file = property(lambda self: self.path / "results.json")
    predictions_file = property(lambda self: self.path / "predictions.csv")
    detections_file = property(lambda self: self.path / "detections.json")
    report_file = property(lambda self: self.path / "report.html")

    @property
    def checkpoints(self) -> list[Path]:
        """Those to go on from that are there, the last before the one before it."""
        return [path for path in (self.last_checkpoint, self.previous_checkpoint) if path.is_file()]

    @property
    def resume_command(self) -> str:
        """The shell command that goes on with the training."""
        return f"transxnet train --resume {shlex.quote(str(self.path))}"

    @staticmethod
    def check_free(path: Path, overwrite: bool) -> None:
        """Raise UserError if a new run in this folder would touch what is there."""
        if not path.exists() or (path.is_dir() and not _begun(path)):
            return
        if not overwrite:
            raise UserError(
                f"{path} exists already. Go on with it by --resume {path}, write over it by --overwrite, or choose "
                "another folder with --out."
            )
        if not all((path / name).is_file() for name in ("config.yaml", "environment.json")):
            raise UserError(f"{path} is not a run folder, so --overwrite leaves it alone. Choose another --out.")
        foreign = sorted(entry.name for entry in _entries(path) if entry.name not in _OWN)
        if foreign:
            raise UserError(
                f"{path} also holds {', '.join(foreign[:5])}, which no run writes, so --overwrite leaves it alone. "
                "Move that away, or choose another --out."
            )

    @classmethod
    @contextmanager
    def create(cls, path: Path, overwrite: bool) -> Iterator["Run"]:
        """Make the empty folder of a new run and hold it against other processes.

        Raises:
            UserError: it holds something, and ``overwrite`` is not set; another run is at work in it; or it can't be
                written.
        """
        with ExitStack() as held:
            cls.check_free(path, overwrite)
            try:
                path.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock_folder(path, f"{DEFAULT_ADVICE} Or choose another folder with --out."))
                cls.check_free(path, overwrite)  # another may have come in between
                cls(path).clear()
            except OSError as error:
                why = f"cannot make the run folder {path}: {error.strerror}"
                raise UserError(f"{why}. Choose another with --out.") from error
            yield cls(path)

    @contextmanager
    def reopen(self) -> Iterator["Run"]:
        """Hold the folder against other trainings, and remove what a killed one left half-written.

        Of processes that train together the first does it for all.

        Raises:
            UserError: another training is at work in it.
            OSError: it can't be written.
        """
        with lock_folder(self.path) if is_first_process() else nullcontext():
            if is_first_process():
                remove_partial_files(self.path, _OWN)
            yield self

    def clear(self) -> None:
        """Remove everything in the folder but the lock.

        In an order by which :meth:`check_free` gives a new run what is left, wherever the process is killed.
        """
        last = [self.config_file, self.environment_file]
        for entry in [entry for entry in self.path.iterdir() if entry not in last]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_FILE:
                entry.unlink()
        for entry in last:
            entry.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Find an existing run.

        Raises:
            UserError: there is no run folder.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path} is not a run folder: it has no config.yaml. Runs are made by transxnet train.")
        return cls(path)

    def read_config(self) -> TrainConfig:
        """The options that the run was started with, resolved."""
        try:
            return config_from_dict({"task": "classify", **read_yaml(self.config_file)})
        except (OSError, ValueError, TypeError, UserError) as error:
            raise UserError(f"{self.config_file} is damaged, or not a run's: {error}") from error

    def write_config(self, config: TrainConfig) -> None:
        """Store the resolved options."""
        write_whole(self.config_file, yaml.safe_dump(config.to_dict(), sort_keys=False))

    def read_environment(self) -> dict[str, Any]:
        """Environment, command and choices of the run's start.

        Raises:
            UserError: the file is damaged, or not a run's.
        """
        try:
            content = read_json(self.environment_file)
            command, choices = str(content["command"]), [str(choice) for choice in content["choices"]]
            about = {str(name): str(value) for name, value in content["environment"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{self.environment_file} is damaged, or not a run's: {error}") from error
        return {"command": command, "choices": choices, "environment": about}

    def write_environment(self, command: str, choices: Sequence[str]) -> None:
        """Store the environment beside the command and what was chosen for the user."""
        content = {"command": command, "choices": list(choices), "environment": collect_environment()}
        write_whole(self.environment_file, json.dumps(content, indent=2))

    def read_results(self) -> dict[str, Any]:
        """The figures of the held-out images, beside how many there are and which epoch's weights were kept.

        Raises:
            UserError: the file is damaged, or not a run's.
        """
        try:
            content = read_json(self.results_file)
            return {**content, "images": int(content["images"])}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.results_file} is damaged, or not a run's: {error}") from error

    def read_metrics(self) -> list[dict[str, float]]:
        """The epochs' figures."""
        with self.metrics_file.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _entries(path: Path) -> list[Path]:
    """What is in a folder, but for the lock and what a killed process left half-written."""
    return [entry for entry in path.iterdir() if entry.name != LOCK_FILE and not is_partial_file(entry.name, _OWN)]


def _begun(path: Path) -> bool:
    """Whether a folder holds more than what a run leaves that ended while its folder was being made.

    The configuration is what is written last then. Only the lock of a process that was killed tells such files from
    others of the same names.
    """
    first = {"environment.json", "split.csv"} if (path / LOCK_FILE).exists() else set()
    return bool({entry.name for entry in _entries(path)} - first)
