"""Checkpoints of a run: written atomically, with a backup of the previous one, and verified on reading."""

import shlex
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.console import Console

from transxnet.models.checkpoints import read_checkpoint
from transxnet.runs.run_folder import Run, is_first_process
from transxnet.training.lightning_module import TrainingModule
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.progress import PLAIN

_REQUIRED_KEYS = ("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks", "train_loss")


class DamagedCheckpoint(UserError):
    """A checkpoint is corrupt or unreadable."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    path: Path
    content: dict[str, Any]

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return int(self.content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


class CheckpointFiles(TorchCheckpointIO):
    """Write Lightning's checkpoints atomically, and pass on the one that is already loaded.

    The previous checkpoint is kept as a backup, in case the disk loses the last one.

    Args:
        run: run that the checkpoints belong to.
        resumed: checkpoint to resume from, if any. If it is the previous one, the last one is damaged and is not kept
            as a backup.
    """

    def __init__(self, run: Run, resumed: Checkpoint | None = None):
        self.run = run
        self._resumed = resumed
        self._last_is_damaged = resumed is not None and resumed.path == run.previous_checkpoint

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the checkpoint to resume from, which is already loaded."""
        assert self._resumed is not None and Path(path) == self._resumed.path
        content = dict(self._resumed.content)
        self._resumed.content.clear()  # frees its tensors as soon as Lightning has loaded them
        return content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; on failure raises WriteError and leaves the earlier ones unchanged."""
        assert storage_options is None
        path, last = Path(path), self.run.last_checkpoint
        path.parent.mkdir(exist_ok=True)
        backup = self.run.previous_checkpoint if path == last and not self._last_is_damaged else None
        write_atomic(path, lambda temporary: _save(checkpoint, temporary), backup)
        self._last_is_damaged = self._last_is_damaged and path != last


def _save(checkpoint: Mapping[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:  # PyTorch's writer continues after an OSError and fails later with another error
        cause = error.__context__
        if isinstance(cause, OSError):
            raise OSError(cause.errno, cause.strerror) from error
        raise


def read_verified(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint of this package and verify its checksums, which PyTorch does not do.

    Raises:
        DamagedCheckpoint: the file is truncated, overwritten, changed or unreadable.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except OSError as error:
        raise DamagedCheckpoint(f"cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DamagedCheckpoint(f"{path} is truncated or not a checkpoint: {error}.") from error
    if changed:
        raise DamagedCheckpoint(f"{path} is damaged: wrong checksum of {changed}.")
    try:
        return read_checkpoint(path)
    except (UserError, OSError) as error:
        raise DamagedCheckpoint(str(error)) from error


def find_checkpoint(run: Run, console: Console) -> Checkpoint | None:
    """Read the checkpoint to resume from: the last, or the previous one if the last is damaged or missing.

    Raises:
        UserError: checkpoints exist, but all are damaged.
    """
    damaged, problems = [], []
    for path in run.checkpoints:
        try:
            checkpoint = Checkpoint(path, dict(read_verified(path)))
            epoch = checkpoint.epoch
        except DamagedCheckpoint as error:
            damaged.append(path)
            problems.append(str(error))
            continue
        except (KeyError, TypeError) as error:
            raise UserError(_cannot_resume(run, [path], f"Entry {error} is missing.")) from error
        if path == run.previous_checkpoint and is_first_process():
            console.print(
                f"warning: {problems[0] if problems else f'{run.last_checkpoint} is missing.'} Resuming from the "
                f"previous checkpoint, after epoch {epoch}; later epochs are trained again.",
                style="yellow",
                **PLAIN,
            )
        return checkpoint
    if problems:
        raise UserError(_cannot_resume(run, damaged, " ".join(problems)))
    return None


def check_matches(run: Run, checkpoint: Checkpoint, module: TrainingModule) -> None:
    """Check that a checkpoint fits the module; Lightning's own errors do not tell the user what to do.

    Raises:
        UserError: the checkpoint is of another network, or not of a training run.
    """
    try:
        module.load_state_dict(checkpoint.content["state_dict"])
        missing = [key for key in _REQUIRED_KEYS if key not in checkpoint.content]
        if missing:
            raise KeyError(missing[0])
    except (KeyError, RuntimeError, TypeError) as error:
        reason = f"Entry {error} is missing." if isinstance(error, KeyError) else str(error)
        raise UserError(_cannot_resume(run, [checkpoint.path], reason)) from error


def weights_hint(run: Run) -> str:
    """Return a message on how to start a new run from the last checkpoint of a failed one."""
    paths = run.checkpoints
    if not paths:
        return "No epoch was finished, so no checkpoint exists."
    return (
        f"The last valid checkpoint is {paths[0]}. To start a new run from its weights: "
        f"--checkpoint {shlex.quote(str(paths[0]))}."
    )


def resume_hint(run: Run) -> str:
    """Return a message on how to resume a run after a disk error is fixed."""
    paths = run.checkpoints
    state = f"The last valid checkpoint is {paths[0]}. " if paths else "No checkpoint was saved. "
    known = state if run.path.is_dir() else ""
    return f"{known}Resume with: {run.resume_command}"


def remove_previous(run: Run) -> None:
    """Remove the previous checkpoint, which a finished run does not need."""
    with suppress(OSError):
        run.previous_checkpoint.unlink(missing_ok=True)


def _cannot_resume(run: Run, paths: Sequence[Path], why: str) -> str:
    names = " and ".join(map(str, paths))
    return (
        f"cannot resume from {names}: damaged, or the classes of the data have changed. {shorten(why, 300)} "
        f"To start from the beginning, remove the checkpoint and repeat --resume {run.path}."
    )
