"""The checkpoints of a run: written atomically, the one before kept, and verified when they are read."""

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
    """A checkpoint's bytes are not those that were written, or the disk does not return them."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and verified."""

    path: Path
    content: dict[str, Any]


class CheckpointFiles(TorchCheckpointIO):
    """Writes Lightning's checkpoints, each atomically, and passes on the one that was read.

    The last checkpoint's predecessor is kept, to resume from if a disk loses the last.

    Args:
        run: whose folder they are for.
        resumed: the checkpoint to resume from, if any. If it is the one before the last, the last one is damaged and is
            not kept as a backup.
    """

    def __init__(self, run: Run, resumed: Checkpoint | None = None):
        self.run = run
        self._resumed = resumed
        self._last_is_damaged = resumed is not None and resumed.path == run.previous_checkpoint

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Pass on the checkpoint to resume from, which was read already."""
        assert self._resumed is not None and Path(path) == self._resumed.path
        content = dict(self._resumed.content)
        self._resumed.content.clear()  # so that its tensors are released as soon as Lightning has loaded them
        return content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; raises WriteError, with the earlier ones unchanged."""
        assert storage_options is None
        path, last = Path(path), self.run.last_checkpoint
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
    """Read a checkpoint that this package wrote, and verify its checksums, which PyTorch does not do.

    Raises:
        DamagedCheckpoint: it is truncated, overwritten, changed or unreadable.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except OSError as error:
        raise DamagedCheckpoint(f"{path} can't be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DamagedCheckpoint(f"{path} is cut short or not a checkpoint: {error}.") from error
    if changed:
        raise DamagedCheckpoint(f"{path} is damaged: the bytes of {changed} in it are not those that were written.")
    try:
        return read_checkpoint(path)
    except (UserError, OSError) as error:
        raise DamagedCheckpoint(str(error)) from error


def find_checkpoint(run: Run, console: Console) -> Checkpoint | None:
    """Read the checkpoint to resume from: the last, or the one before if that is damaged or missing.

    Raises:
        UserError: there are some, and none of them is intact.
    """
    damaged, problems = [], []
    for path in run.checkpoints:
        try:
            content = dict(read_verified(path))
            epoch = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        except DamagedCheckpoint as error:
            damaged.append(path)
            problems.append(str(error))
            continue
        except (KeyError, TypeError) as error:
            raise UserError(_cannot_resume(run, [path], f"it holds no {error}")) from error
        if path == run.previous_checkpoint and is_first_process():
            console.print(
                f"warning: {problems[0] if problems else f'{run.last_checkpoint} is gone.'} Going on from the "
                f"checkpoint before, after epoch {epoch}; what came later is trained again.",
                style="yellow",
                **PLAIN,
            )
        return Checkpoint(path, content)
    if problems:
        raise UserError(_cannot_resume(run, damaged, " ".join(problems)))
    return None


def check_matches(run: Run, checkpoint: Checkpoint, module: TrainingModule) -> None:
    """Check a checkpoint before Lightning does, whose errors do not name the next step.

    Raises:
        UserError: it is another network's, or not a training's.
    """
    try:
        module.load_state_dict(checkpoint.content["state_dict"])
        missing = [key for key in _REQUIRED_KEYS if key not in checkpoint.content]
        if missing:
            raise KeyError(missing[0])
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(_cannot_resume(run, [checkpoint.path], str(error))) from error


def weights_hint(run: Run) -> str:
    """Tell how to start a new run from the last checkpoint of one that failed."""
    paths = run.checkpoints
    if not paths:
        return "No epoch was finished before, so there is nothing to go on from."
    return (
        f"The last good state is {paths[0]}; a new run goes on from its weights with "
        f"--checkpoint {shlex.quote(str(paths[0]))}."
    )


def resume_hint(run: Run) -> str:
    """Tell how to resume a run after an error of the disk is fixed."""
    paths = run.checkpoints
    state = f"The last good state is {paths[0]}. " if paths else "Nothing was saved before. "
    known = state if run.path.is_dir() else ""
    return f"{known}Then go on with: {run.resume_command}"


def remove_previous(run: Run) -> None:
    """Remove the checkpoint before the last, which a finished run does not need."""
    with suppress(OSError):
        run.previous_checkpoint.unlink(missing_ok=True)


def _cannot_resume(run: Run, paths: Sequence[Path], why: str) -> str:
    names = " and ".join(map(str, paths))
    return (
        f"{names} can't be gone on with; is it damaged, or did the data's classes change? {shorten(why, 300)} Without "
        f"it the run starts from the beginning: remove it and give --resume {run.path} again."
    )
