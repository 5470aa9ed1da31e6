"""Defaults chosen from the data, the model and the hardware, each recorded with its reason."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import is_pretraining
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
    "pretrain": TaskDefaults(256, 32, 100, 1e-3, 256),
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
        self.choices.append(f"{name} {_format(value)} ({why})")
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
        self.resolve("precision", *_precision(self.hardware))
        default_batch = defaults.batch_gpu if gpu else defaults.batch_cpu
        if config.batch_size == "auto":
            if count > 1:
                raise UserError(
                    f"batch_size auto needs a single process, got {count}. Find the batch size with --devices 1 "
                    "--num-nodes 1, then pass it as --batch-size."
                )
            self.config = self.config.replace(batch_size=None)  # type: ignore[assignment]
            fitting, why = largest_batch(self.config, max(2, images // 8), default_batch)
        else:
            fitting, why = default_batch, f"default on a {'GPU' if gpu else 'CPU'}"
            while fitting > 2 and fitting * 8 > images:
                fitting //= 2
            if fitting < default_batch:
                why = f"reduced for {images} training images"
        batch = self.resolve("batch_size", fitting, why)
        if batch * count > images:
            together = f" on {count} processes" if count > 1 else ""
            raise UserError(
                f"batch_size {batch}{together} is more than the number of training images, {images}. "
                f"Use --batch-size {min(fitting, images // count) or 1}."
            )
        epochs = self.resolve("epochs", defaults.epochs, "default")
        total = batch * config.accumulate * count
        factor, reason = _rate_factor(config)
        peak = float(f"{defaults.rate * (total / defaults.rate_images) ** 0.5 * factor:.2g}")
        why = f"{_format(defaults.rate)} at batch size {defaults.rate_images}, square-root scaled to {total}"
        self.resolve("lr", peak, why + reason)
        self.resolve("warmup_epochs", round(min(5, epochs / 10), 2), "10% of the epochs, at most 5")
        updates = max(1, images // total) * epochs
        decay = round(max(0.0, min(0.9998, 1 - 20 / updates)), 5)
        why = f"EMA over the last 5% of {updates} updates" if decay else f"too few updates for an EMA: {updates}"
        self.resolve("ema_decay", decay, why)
        workers = min(8, max(1, (os.cpu_count() or 1) // 2))
        self.resolve("workers", workers, "half of the CPU cores, at most 8")


def _precision(hardware: Hardware) -> tuple[str, str]:
    """Return the fastest precision that keeps the accuracy, and the reason."""
    if hardware.device == "cuda":
        return ("bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"), "default on this GPU"
    if hardware.device == "cpu" and torch.cpu._is_amx_tile_supported():
        return "bf16-mixed", "this CPU has matrix units for bfloat16"
    return "32-true", "default on this device"


def _rate_factor(config: TrainConfig) -> tuple[float, str]:
    """Return the factor of the learning rate for the initial weights, and its reason.

    AdamW moves a weight by about the learning rate per update, so that a new classifier hardly learns at a tenth of it.
    """
    if not (config.pretrained or config.checkpoint is not None):
        return 1, ""
    if config.freeze == "backbone" and config.freeze_epochs is None:
        return 1, ", not divided, since the backbone is frozen"
    if is_pretraining(config.checkpoint):
        return 1, ", not divided, since the pretraining had no labels"
    return 0.1, ", divided by 10 for fine-tuning"


def _format(value: Any) -> Any:
    """Format a value for a message: floats below 0.01 as in 1.8e-4."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and 0 < value < 0.01:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else value
