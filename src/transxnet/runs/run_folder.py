"""The run folder: its files and their layout."""

import csv
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transxnet.runs.config import TrainConfig
from transxnet.runs.task_configs import config_from_dict
from transxnet.utils.environment import collect_environment
from transxnet.utils.errors import UserError
from transxnet.utils.files import is_partial_file, remove_partial_files, write_atomic
from transxnet.utils.locks import DEFAULT_ADVICE, LOCK_FILE, lock_folder
from transxnet.utils.tables import data_frame, html_table
from transxnet.utils.text_files import read_json, read_yaml

_OWN = (
    "config.yaml", "environment.json", "split.csv", "exclude.csv", "metrics.csv", "last.ckpt", "previous.ckpt",
    "best.ckpt", "averaged", "model.safetensors", "model.json", "config.json", "results.json", "predictions.csv",
    "detections.json", "test_predictions.csv", "test_detections.json", "study_test.csv", "study_test.json",
    "report.html", "README.md", "tensorboard", "wandb",
)  # fmt: skip


def is_first_process() -> bool:
    """Return whether this is the training process of rank 0, which writes the files."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))


def is_pretraining(checkpoint: str | None) -> bool:
    """Return whether this is the run folder of a pretraining."""
    if checkpoint is None or not (Path(checkpoint) / "config.yaml").is_file():
        return False
    return Run(Path(checkpoint)).read_config().task == "pretrain"


@dataclass(frozen=True)
class Run:
    """A run folder.

    ``results`` are the metrics of the saved weights on the validation set, and ``history`` those of each epoch.
    Functions that take a run folder also take ``run.path``: ``transxnet.load(run.path)``.

    Attributes:
        path: path of the folder.
    """

    path: Path

    config_file = property(lambda self: self.path / "config.yaml")
    environment_file = property(lambda self: self.path / "environment.json")
    split_file = property(lambda self: self.path / "split.csv")
    exclude_file = property(lambda self: self.path / "exclude.csv")
    metrics_file = property(lambda self: self.path / "metrics.csv")
    averaged_folder = property(lambda self: self.path / "averaged")
    last_checkpoint = property(lambda self: self.path / "last.ckpt")
    previous_checkpoint = property(lambda self: self.path / "previous.ckpt")
    best_checkpoint = property(lambda self: self.path / "best.ckpt")
    weights_file = property(lambda self: self.path / "model.safetensors")
    model_file = property(lambda self: self.path / "model.json")
    timm_file = property(lambda self: self.path / "config.json")
    stored_split = property(lambda self: self.split_file if self.split_file.is_file() else None)
    results_file = property(lambda self: self.path / "results.json")
    predictions_file = property(lambda self: self.path / "predictions.csv")
    detections_file = property(lambda self: self.path / "detections.json")
    test_predictions_file = property(lambda self: self.path / "test_predictions.csv")
    test_detections_file = property(lambda self: self.path / "test_detections.json")
    study_test_file = property(lambda self: self.path / "study_test.csv")
    study_test_detections_file = property(lambda self: self.path / "study_test.json")
    card_file = property(lambda self: self.path / "README.md")
    report_file = property(lambda self: self.path / "report.html")

    @property
    def checkpoints(self) -> list[Path]:
        """Existing checkpoints to resume from, the last one first."""
        return [path for path in (self.last_checkpoint, self.previous_checkpoint) if path.is_file()]

    @property
    def results(self) -> dict[str, Any]:
        """Metrics of the saved weights on the validation set, their number of ``images``, and ``select``.

        The content of ``results.json``; metrics are 0 to 1. ``select`` is the selected epoch: "best" or "last"; with
        averaged weights, the value of ``average``, and ``averaged`` lists the epochs, and ``best_epoch`` has number and
        metrics of the best single one. ``intervals`` holds the 95% limits of the metrics; of classes, ``fitted`` the
        temperature and threshold of the validation set, and ``calibration`` the reliability diagram. ``test`` holds
        the same of the test set, if there is one.

        Raises:
            UserError: the run is not finished, or the file is damaged.
        """
        if not self.results_file.is_file():
            raise UserError(f"the run in {self.path} is not finished. Resume it with: {self.resume_command}")
        return self.read_results()

    @property
    def history(self) -> Any:
        """Losses, learning rate, validation metrics and seconds of each epoch, from ``metrics.csv``.

        A pandas DataFrame with one row per epoch if pandas is installed, else a list of dicts. Empty before the end of
        the first epoch.
        """
        rows = self.read_metrics() if self.metrics_file.is_file() else []
        return data_frame(rows) if find_spec("pandas") is not None else rows

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = []
        if self.results_file.is_file():
            results = self.read_results()
            test = results.pop("test", {})
            rows = [*results.items(), *((f"test {name}", value) for name, value in test.items())]
            rows = [(name, value) for name, value in rows if not isinstance(value, dict)]
        title = f"{self.path}" + ("" if rows else ": not finished")
        return html_table(title, ("result", "value"), rows)

    @property
    def resume_command(self) -> str:
        """Shell command that resumes the run."""
        return f"transxnet train --resume {shlex.quote(str(self.path))}"

    @staticmethod
    def check_free(path: Path, overwrite: bool) -> None:
        """Raise UserError if a new run in this folder would change existing files."""
        if not path.exists() or (path.is_dir() and not _begun(path)):
            return
        if not overwrite:
            raise UserError(
                f"{path} already exists. Resume it with --resume {path}, replace it with --overwrite, or choose "
                "another folder with --out."
            )
        if not all((path / name).is_file() for name in ("config.yaml", "environment.json")):
            raise UserError(f"{path} is not a run folder, so --overwrite does not delete it. Choose another --out.")
        foreign = sorted(entry.name for entry in _entries(path) if entry.name not in _OWN)
        if foreign:
            raise UserError(
                f"{path} also holds {', '.join(foreign[:5])}, which is not part of a run, so --overwrite does not "
                "delete it. Move that away, or choose another --out."
            )

    @classmethod
    @contextmanager
    def create(cls, path: Path, overwrite: bool) -> Iterator["Run"]:
        """Create the empty folder of a new run and lock it.

        Raises:
            UserError: the folder is not empty and ``overwrite`` is not set, another run uses it, or it is not writable.
        """
        with ExitStack() as held:
            cls.check_free(path, overwrite)
            try:
                path.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock_folder(path, f"{DEFAULT_ADVICE} Or choose another folder with --out."))
                cls.check_free(path, overwrite)  # another process may have used it before the lock
                cls(path).clear()
            except OSError as error:
                why = f"cannot create the run folder {path}: {error.strerror}"
                raise UserError(f"{why}. Choose another with --out.") from error
            yield cls(path)

    @contextmanager
    def reopen(self) -> Iterator["Run"]:
        """Lock the folder and remove the partial files of a killed process.

        In distributed training, rank 0 does this for all processes.

        Raises:
            UserError: another process is training in the folder.
            OSError: the folder is not writable.
        """
        with lock_folder(self.path) if is_first_process() else nullcontext():
            if is_first_process():
                remove_partial_files(self.path, _OWN)
            yield self

    def clear(self) -> None:
        """Remove everything in the folder except the lock.

        The order is such that if the process is killed, :meth:`check_free` accepts what is left for a new run.
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
        """Open the folder of an existing run.

        Raises:
            UserError: the path is not a run folder.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            raise UserError(f"{path} is not a run folder: config.yaml is missing. {suggest_runs(path.parent)}")
        return cls(path)

    def read_config(self) -> TrainConfig:
        """Read the resolved options of the run, with the present paths of its excluded images and its split."""
        try:
            config = config_from_dict({"task": "classify", **read_yaml(self.config_file)})
        except (OSError, ValueError, TypeError, UserError) as error:
            raise UserError(f"{self.config_file} is damaged or not part of a run: {error}") from error
        own = {"exclude": self.exclude_file, "split_file": self.split_file}
        return config.replace(**{name: str(file) for name, file in own.items() if getattr(config, name) is not None})

    def write_config(self, config: TrainConfig) -> None:
        """Store the resolved options."""
        write_atomic(self.config_file, config.to_yaml())

    def read_environment(self) -> dict[str, Any]:
        """Read environment, command and choices, as stored at the start of the run.

        Raises:
            UserError: the file is damaged or not from a run.
        """
        try:
            content = read_json(self.environment_file)
            command, choices = str(content["command"]), [str(choice) for choice in content["choices"]]
            about = {str(name): str(value) for name, value in content["environment"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{self.environment_file} is damaged or not part of a run: {error}") from error
        return {"command": command, "choices": choices, "environment": about}

    def write_environment(self, command: str, choices: Sequence[str]) -> None:
        """Store the environment, the command and the options that were chosen automatically."""
        content = {"command": command, "choices": list(choices), "environment": collect_environment()}
        write_atomic(self.environment_file, json.dumps(content, indent=2))

    def read_results(self) -> dict[str, Any]:
        """Read the validation metrics, the number of validation images and the epoch of the saved weights.

        Raises:
            UserError: the file is damaged or not from a run.
        """
        try:
            content = read_json(self.results_file)
            return {**content, "images": int(content["images"])}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{self.results_file} is damaged or not part of a run: {error}") from error

    def read_metrics(self) -> list[dict[str, float]]:
        """Read the metrics of each epoch."""
        with self.metrics_file.open(newline="") as file:
            return [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file)]


def _entries(path: Path) -> list[Path]:
    """List a folder without the lock and the partial files of a killed process."""
    return [entry for entry in path.iterdir() if entry.name != LOCK_FILE and not is_partial_file(entry.name, _OWN)]


def _begun(path: Path) -> bool:
    """Return whether a folder holds more than a run leaves that was killed while creating the folder.

    The configuration is written last. Only the lock of the killed process shows that the earlier files are from a run.
    """
    first = {"environment.json", "split.csv"} if (path / LOCK_FILE).exists() else set()
    return bool({entry.name for entry in _entries(path)} - first)


def suggest_runs(folder: Path) -> str:
    """Return a sentence for error messages with the run folders in a folder, or with how to create one."""
    runs = list_runs(folder) or list_runs(folder / "runs")
    return f"Run folders there: {', '.join(runs)}." if runs else "transxnet train creates run folders."


def list_runs(folder: Path, count: int = 5) -> list[str]:
    """Return the paths of the run folders in a folder, the newest first."""
    with suppress(OSError):
        runs = sorted(folder.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
        return [str(path.parent) for path in runs[:count]]
    return []
