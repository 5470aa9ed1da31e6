"""A run's checkpoints: written whole, the one before kept, and found again after whatever happened."""

import shlex
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.console import Console

from transxnet.models.checkpoints import read_checkpoint
from transxnet.runs.run_folder import Run, is_first_process
from transxnet.training.lightning_module import Training
from transxnet.utils.errors import UserError
from transxnet.utils.files import write_whole

_NEEDED = ("state_dict", "loops", "optimizer_states", "lr_schedulers", "callbacks", "train_loss")


class Damaged(UserError):
    """A checkpoint's bytes are not those that were written, or the disk does not give them."""


class CheckpointFiles(TorchCheckpointIO):
    """Writes Lightning's checkpoints, each whole and on the disk before it takes its place.

    The last checkpoint's predecessor is kept, so that there is one to go on from even if a disk loses the last.

    Args:
        run: whose folder they are for.
        resumed: the checkpoint that the training goes on from, if any: where it is the one before the last, the last
            one is damaged, and is not kept in its place.
    """

    def __init__(self, run: Run, resumed: Path | None = None):
        self.run = run
        self._last_is_damaged = resumed == run.previous_checkpoint

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; raises WriteError, with the ones before in their places."""
        assert storage_options is None
        path, last = Path(path), self.run.last_checkpoint
        backup = self.run.previous_checkpoint if path == last and not self._last_is_damaged else None
        write_whole(path, lambda temporary: _save(checkpoint, temporary), backup)
        self._last_is_damaged = self._last_is_damaged and path != last


def _save(checkpoint: Mapping[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(checkpoint, file)
    except RuntimeError as error:  # PyTorch's writer goes on after the system's error and fails at something else
        reason = error.__context__
        if isinstance(reason, OSError):
            raise OSError(reason.errno, reason.strerror) from error
        raise


def read_whole(path: Path) -> Mapping[str, Any]:
    """Read a checkpoint that a training of ours wrote, every byte of it checked, which PyTorch does not do.

    Raises:
        Damaged: it is cut short, overwritten or changed, or can't be read at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except OSError as error:
        raise Damaged(f"{path} can't be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise Damaged(f"{path} is cut short or not a checkpoint: {error}.") from error
    if changed:
        raise Damaged(f"{path} is damaged: the bytes of {changed} in it are not those that were written.")
    try:
        return read_checkpoint(path)
    except (UserError, OSError) as error:
        raise Damaged(str(error)) from error


def find_checkpoint(run: Run, console: Console) -> Path | None:
    """The checkpoint that an interrupted run goes on from: the last, or the one before if that is damaged or gone.

    Raises:
        UserError: there are some, and none of them is whole.
    """
    damaged, problems = [], []
    for path in run.checkpoints:
        try:
            epoch = read_whole(path)["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
        except Damaged as error:
            damaged.append(path)
            problems.append(str(error))
            continue
        except (KeyError, TypeError) as error:
            raise UserError(_cannot_go_on(run, [path], f"it holds no {error}")) from error
        if path == run.previous_checkpoint and is_first_process():
            console.print(
                f"warning: {problems[0] if problems else f'{run.last_checkpoint} is gone.'} Going on from the "
                f"checkpoint before, after epoch {epoch}; what came later is trained again.",
                style="yellow",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        return path
    if problems:
        raise UserError(_cannot_go_on(run, damaged, " ".join(problems)))
    return None


def check_fits(run: Run, path: Path, module: Training) -> Mapping[str, Any]:
    """Read a checkpoint before Lightning does, whose errors are for its own users.

    Raises:
        UserError: it is another network's, or not a training's.
    """
    checkpoint = read_checkpoint(path)
    try:
        module.load_state_dict(checkpoint["state_dict"])
        missing = [key for key in _NEEDED if key not in checkpoint]
        if missing:
            raise KeyError(missing[0])
    except (KeyError, RuntimeError, TypeError) as error:
        raise UserError(_cannot_go_on(run, [path], str(error))) from error
    return checkpoint


def last_good(run: Run) -> str:
    """Where a training stands that something ended, in words."""
    there = run.checkpoints
    if not there:
        return "No epoch was finished before, so there is nothing to go on from."
    return (
        f"The last good state is {there[0]}; a new run goes on from its weights with "
        f"--checkpoint {shlex.quote(str(there[0]))}."
    )


def once_mended(run: Run) -> str:
    """What to do after a training whose files could not be written, once that is mended."""
    there = run.checkpoints
    state = f"The last good state is {there[0]}. " if there else "Nothing was saved before. "
    known = state if run.path.is_dir() else ""
    return f"{known}Then go on with: {run.resume_command}"


def forget_previous(run: Run) -> None:
    """Remove the checkpoint before the last, which a finished run has no use for."""
    with suppress(OSError):
        run.previous_checkpoint.unlink(missing_ok=True)


def _cannot_go_on(run: Run, paths: Sequence[Path], why: str) -> str:
    names = " and ".join(map(str, paths))
    return (
        f"{names} can't be gone on with; is it damaged, or did the data's classes change? {shorten(why, 300)} Without "
        f"it the run starts from the beginning: remove it and give --resume {run.path} again."
    )
