"""Defaults chosen from the data, the model and the hardware, each recorded with its reason."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from transxnet.runs.config import TrainConfig
from transxnet.training.distributed import Hardware
from transxnet.utils.errors import UserError

C = TypeVar("C", bound=TrainConfig)


@dataclass(frozen=True)
class TaskDefaults:
    """Defaults of a task.

    Attributes:
        batch_gpu: batch size on a GPU.
        batch_cpu: batch size on a CPU.
        epochs: number of epochs.
        rate: learning rate from scratch at a total batch size of ``rate_images``.
        rate_images: see ``rate``; other batch sizes use square-root scaling.
    """

    batch_gpu: int
    batch_cpu: int
    epochs: int
    rate: float
    rate_images: int


TASK_DEFAULTS = {
    "classify": TaskDefaults(128, 32, 100, 1e-3, 256),
    "detect": TaskDefaults(8, 4, 50, 1e-3, 16),
    "segment": TaskDefaults(16, 8, 50, 1e-3, 16),
}


class DefaultsResolver(Generic[C]):
    """Resolves the options that are null.

    Args:
        config: configuration in which options may be null.
        hardware: hardware of the training run.

    Attributes:
        config: configuration with the options resolved so far.
        choices: one message per option that was chosen automatically.
    """

    def __init__(self, config: C, hardware: Hardware):
        self.config, self.hardware = config, hardware
        self.choices: list[str] = []

    def resolve(self, name: str, value: Any, why: str) -> Any:
        """Set an option if it is null and record the reason; return the option's value."""
        given = getattr(self.config, name)
        if given is not None:
            return given
        words = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
        self.choices.append(f"{name} {words}: {why}")
        self.config = self.config.replace(**{name: value})  # type: ignore[assignment]
        return value

    def resolve_common(self, images: int, largest_batch: Callable[[C, int, int], tuple[int, str]]) -> None:
        """Resolve the options that all tasks share.

        Args:
            images: number of training images.
            largest_batch: takes the configuration resolved so far, the largest batch size that the data allows and the
                default; returns the largest batch size that fits, and the reason.

        Raises:
            UserError: the batch is larger than the data, or no batch fits into memory.
        """
        config, defaults, gpu = self.config, TASK_DEFAULTS[self.config.task], self.hardware.device == "cuda"
        count = self.hardware.processes
        bf16 = gpu and torch.cuda.is_bf16_supported()
        self.resolve("precision", "bf16-mixed" if bf16 else "16-mixed" if gpu else "32-true", "for this device")
        default_batch = defaults.batch_gpu if gpu else defaults.batch_cpu
        if config.batch_size == "auto":
            if count > 1:
                raise UserError(
                    "batch_size auto is found by one process alone. Train for a step with --devices 1 --num_nodes 1, "
                    "and give the size that it says to all of them."
                )
            self.config = self.config.replace(batch_size=None)  # type: ignore[assignment]
            fitting, why = largest_batch(self.config, max(2, images // 8), default_batch)
        else:
            fitting, why = default_batch, "for a GPU" if gpu else "for a CPU, or few images"
            while fitting > 2 and fitting * 8 > images:
                fitting //= 2
        batch = self.resolve("batch_size", fitting, why)
        if batch * count > images:
            together = f" on each of {count} processes" if count > 1 else ""
            raise UserError(
                f"batch_size {batch}{together} is more than the {images} training images. "
                f"Give --batch_size {min(fitting, images // count) or 1}."
            )
        epochs = self.resolve("epochs", defaults.epochs, "the default")
        total, tuning = batch * config.accumulate * count, config.pretrained or config.checkpoint is not None
        peak = float(f"{defaults.rate * (total / defaults.rate_images) ** 0.5 * (0.1 if tuning else 1):.2g}")
        why = f"{defaults.rate:g} at {defaults.rate_images} images an update, by the square root for {total}"
        self.resolve("lr", peak, why + (", a tenth to fine-tune" if tuning else ""))
        self.resolve("warmup_epochs", round(min(5, epochs / 10), 2), "a tenth of the epochs, at most 5")
        updates = max(1, images // total) * epochs
        decay = round(max(0.0, min(0.9998, 1 - 20 / updates)), 5)
        span = f"the last twentieth of {updates} updates"
        self.resolve("ema_decay", decay, f"an average over {span}" if decay else f"no average over {span}")
        workers = min(8, max(1, (os.cpu_count() or 1) // 2))
        self.resolve("workers", workers, "for this machine's processors")
