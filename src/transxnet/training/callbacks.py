"""Callbacks around the training steps: epoch log, checkpoints, and stopping on a signal."""

import csv
import io
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from rich.console import Console

from transxnet.metrics.metric_names import format_metric
from transxnet.runs.run_folder import Run, is_first_process
from transxnet.training.checkpoint_files import DamagedCheckpoint, read_verified
from transxnet.training.lightning_module import TrainingModule
from transxnet.utils.errors import Interrupted, UserError
from transxnet.utils.files import write_atomic
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import duration, format_count

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOP_CHECK_INTERVAL = 10
"""Updates between checks whether any process was asked to stop; each check is an all-reduce."""


class EpochLog(Callback):
    """Log one line per epoch to the console and ``metrics.csv``: losses, metrics of the task, and the time.

    The checkpoint stores the lines, so after a resume the file has each epoch once, with its total time.
    """

    def __init__(self, run: Run, console: Console):
        self.run, self.console = run, console
        self.rows: list[dict[str, float]] = []
        self._started: float | None = None
        self._before = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the finished epochs and the seconds spent in the current one."""
        return {"rows": self.rows, "seconds": self._seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs before the interruption."""
        self.rows, self._before = state_dict["rows"], state_dict["seconds"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock when resuming within an epoch."""
        if self._started is None:
            self._started = time.monotonic()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock when resuming within a validation."""
        if self._started is None:
            self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's line."""
        assert isinstance(pl_module, TrainingModule)
        losses = pl_module.epoch_losses()
        row: dict[str, float] = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[-1]["lr"],
            **losses,
            "skipped": pl_module.skipped,
        }
        if pl_module.validated():
            figures = pl_module.validation_metrics
            row |= {name: figures[name] for name in pl_module.columns if name in figures}
        row["seconds"] = round(self._seconds(), 2)
        self._started, self._before = None, 0.0
        self.rows = [old for old in self.rows if old["epoch"] < row["epoch"]] + [row]
        if not trainer.is_global_zero:
            return
        write_metrics(self.run.metrics_file, self.rows)
        for logger in trainer.loggers:
            logger.log_metrics(losses, trainer.global_step)
        epochs = (trainer.max_epochs or 0) - row["epoch"]
        left = f", {duration(sum(r['seconds'] for r in self.rows) / len(self.rows) * epochs)} left" if epochs else ""
        self.console.print(
            f"epoch {int(row['epoch']):>3}/{trainer.max_epochs}  "
            f"loss {row['train_loss']:.3f}  {_format_validation(row, pl_module.columns)}"
            f"{_format_skipped(pl_module.skipped)}[dim]{row['seconds']:.0f} s{left}[/dim]",
            highlight=False,
            soft_wrap=not self.console.is_terminal,  # in a file, one line per epoch
        )

    def _seconds(self) -> float:
        return self._before + (0.0 if self._started is None else time.monotonic() - self._started)


class RunCheckpoint(ModelCheckpoint):
    """Saves checkpoints at the end of epochs, and finds them again in a run folder that was moved.

    Args:
        folder: folder of the checkpoints.
        monitor: metric that selects the epochs; higher is better.
        names: patterns of the file names that this object writes.
        **options: further arguments of Lightning's class.
    """

    def __init__(self, folder: Path, monitor: str, names: Sequence[str], **options: Any):
        super().__init__(
            dirpath=folder,
            monitor=monitor,
            mode="max",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            **options,
        )
        self._names = names

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the checkpoints' names and scores.

        Raises:
            UserError: a name is not one of this object's files.
        """

        def here(path: str) -> str:
            # Lightning deletes the previous best path, even a folder, so accept only names that it wrote.
            if path and not any(fnmatch(Path(path).name, pattern) for pattern in self._names):
                accepted = " and ".join(self._names)
                raise UserError(f"the checkpoint names {path!r} as the best checkpoint. Accepted: {accepted}.")
            return path and str(Path(str(self.dirpath), Path(path).name))

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        known = {here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {name: here(state_dict[name]) for name in paths} | {"best_k_models": known, "dirpath": self.dirpath}
        super().load_state_dict(state_dict | moved)
        self.current_score = state_dict["current_score"]  # not restored by Lightning


class BestAndLast(RunCheckpoint):
    """Save the checkpoints of the best and the last epoch; resuming works in a moved run folder, too."""

    def __init__(self, run: Run, monitor: str, console: Console):
        super().__init__(run.path, monitor, (run.best_checkpoint.name, run.last_checkpoint.name), filename="best")
        self._run, self._console = run, console

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; Lightning's ``save_last`` skips epochs that are not the best."""
        assert isinstance(pl_module, TrainingModule)
        if pl_module.validated():
            super().on_train_epoch_end(trainer, pl_module)
        trainer.save_checkpoint(self._run.last_checkpoint)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score from ``best.ckpt`` itself.

        It can be newer than the checkpoint to resume from, since it is written before ``last.ckpt``.
        """
        best = self._run.best_checkpoint
        if best.is_file():
            try:
                state_dict = read_verified(best)["callbacks"][self.state_key]
            except (DamagedCheckpoint, KeyError) as error:
                self._warn_of_lost_best(f"cannot read {best}: {error}")
                return
        elif state_dict["best_model_path"]:
            self._warn_of_lost_best(f"{best} is missing.")
            return
        super().load_state_dict(state_dict)

    def _warn_of_lost_best(self, why: str) -> None:
        if is_first_process():
            text = f"warning: {why} The best of the remaining epochs will be saved instead."
            self._console.print(text, style="yellow", **PLAIN)


class EarlyStop(EarlyStopping):
    """Stop after a number of validations in a row without a better one.

    Args:
        monitor: validation metric; higher is better.
        patience: the number of validations.
        console: console for the message.
    """

    def __init__(self, monitor: str, patience: int, console: Console):
        super().__init__(monitor, patience=patience, mode="max", check_on_train_epoch_end=False)
        self._console = console

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print why the training stops, after the epoch's line."""
        if trainer.should_stop and self.stopped_epoch and trainer.is_global_zero:
            count = format_count(self.patience, "validation")
            self._console.print(f"stopped early: {count} in a row without a better one", **PLAIN)


class GracefulStop(Callback):
    """On Ctrl-C or SIGTERM, save a checkpoint after the current update and stop; on a second signal stop at once."""

    def __init__(self, run: Run):
        self.run = run
        self.requested = False
        self._validating = False

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Handle the signals within the context, then restore the previous handlers; main thread only."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's SIGTERM handler, which exits with status 0 and does not save."""
        if signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGTERM, self._handle)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within the epoch and stop; only between updates, since accumulated gradients are not saved."""
        done, every = batch_idx + 1, trainer.accumulate_grad_batches
        if trainer.world_size > 1:
            every *= STOP_CHECK_INTERVAL
        if done < trainer.num_training_batches and done % every == 0 and self._any_requested(trainer):
            trainer.save_checkpoint(self.run.last_checkpoint)
            self.interrupt(f"stopped at step {trainer.global_step}, saved in {self.run.last_checkpoint}.")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Save and stop within a validation, which may outlast a cluster's grace period; a resume repeats it.

        Only for one process: several have unequal numbers of validation batches, so they cannot synchronize here.
        """
        if self.requested and trainer.world_size == 1:
            self._validating = True
            trainer.save_checkpoint(self.run.last_checkpoint)
            self.interrupt(f"stopped at step {trainer.global_step}, saved in {self.run.last_checkpoint}.")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Record an interrupted validation as just begun, so that Lightning repeats it."""
        if self._validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress |= {"total": dict(begun), "current": dict(begun), "is_last_batch": False}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop between epochs; the last epoch is already saved."""
        if self._any_requested(trainer):
            saved = f", saved in {self.run.last_checkpoint}" if trainer.current_epoch else ""
            self.interrupt(f"stopped after epoch {trainer.current_epoch}{saved}.")

    def _any_requested(self, trainer: Trainer) -> bool:
        """Return whether any process was asked to stop: they save together, so all must stop together."""
        if trainer.world_size == 1:
            return self.requested
        return trainer.strategy.reduce_boolean_decision(self.requested, all=False)

    def _handle(self, number: int, frame: Any) -> None:
        if self.requested:
            self.interrupt("stopped immediately; progress since the last checkpoint is lost.")
        self.requested = True

    def interrupt(self, message: str) -> NoReturn:
        """Raise Interrupted with the command to resume the run."""
        raise Interrupted(f"{message} Resume with: {self.run.resume_command}")


def write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    """Write the metrics of the epochs as CSV, atomically; remove the file if there are no rows."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    names = list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def _format_validation(row: Mapping[str, float], columns: Mapping[str, str]) -> str:
    """Format the validation metrics that are known, or nothing in an epoch without validation."""
    known = {column: name for column, name in columns.items() if not math.isnan(row.get(column, math.nan))}
    figures = ", ".join(
        f"{name} {format_metric(column.removeprefix('val_'), row[column])}" for column, name in known.items()
    )
    return f"validation: {figures}  " if figures else ""


def _format_skipped(count: int) -> str:
    """Format the number of skipped updates, or nothing if none was."""
    return f"[yellow]{format_count(count, 'non-finite update')} skipped[/yellow]  " if count else ""
