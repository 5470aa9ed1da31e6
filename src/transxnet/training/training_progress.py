"""The progress bar of a training."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import TaskID, TextColumn

from transxnet.utils.progress import progress_display


class TrainingProgress(Callback):
    """Show one bar for the current epoch or validation, below the lines that the console prints.

    Lightning's bar prints to a console of its own, so that the lines of another console break it.
    """

    def __init__(self, console: Console):
        self._progress = progress_display(console, TextColumn("{task.fields[loss]}"))
        self._task: TaskID | None = None
        self._read_at = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar of an epoch."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.completed  # not zero if resumed within the epoch
        text = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._start(trainer, text, int(trainer.num_training_batches), done)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance, and show the loss, at most once a second since reading it waits for the device."""
        self._advance(batch_idx + 1)
        if self._task is not None and time.monotonic() - self._read_at > 1:
            self._read_at = time.monotonic()
            self._progress.update(self._task, loss=f"loss {float(outputs['loss']):.3f}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar of a validation."""
        self._start(trainer, "validating", int(sum(trainer.num_val_batches)))

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Advance."""
        self._advance(batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar before the error is printed."""
        self._stop()

    def _start(self, trainer: Trainer, text: str, total: int, done: int = 0) -> None:
        self._stop()
        if trainer.is_global_zero:
            self._task = self._progress.add_task(text, total=total, completed=done, loss="")
            self._progress.start()

    def _advance(self, done: int) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=done)

    def _stop(self) -> None:
        if self._task is not None:
            self._progress.stop()
            self._progress.remove_task(self._task)
            self._task = None
