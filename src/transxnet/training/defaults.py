"""Choosing what the user left open, from the data and the hardware, and saying why."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from transxnet.runs.config import TrainConfig
from transxnet.utils.errors import UserError

C = TypeVar("C", bound=TrainConfig)


@dataclass(frozen=True)
class Usual:
    """What suits a task where the user does not say.

    Attributes:
        batch_gpu: images a step on a GPU.
        batch_cpu: images a step on a CPU.
        epochs: passes over the training images.
        rate: learning rate from scratch, for an update of ``rate_images`` images.
        rate_images: see ``rate``; for others the rate goes by the square root.
    """

    batch_gpu: int
    batch_cpu: int
    epochs: int
    rate: float
    rate_images: int


USUAL = {
    "classify": Usual(128, 32, 100, 1e-3, 256),
    "detect": Usual(8, 4, 50, 1e-3, 16),
    "segment": Usual(16, 8, 50, 1e-3, 16),
}


class Choices(Generic[C]):
    """A configuration that is being completed, and a sentence for each choice.

    Args:
        config: with options that are null.
    """

    def __init__(self, config: C):
        self.config = config
        self.said: list[str] = []

    def choose(self, name: str, value: Any, why: str) -> Any:
        """Set an option that is null, say why, and give its value; one that was given stays."""
        given = getattr(self.config, name)
        if given is not None:
            return given
        words = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
        self.said.append(f"{name} {words}: {why}")
        self.config = self.config.replace(**{name: value})  # type: ignore[assignment]
        return value

    def choose_common(self, images: int, largest: Callable[[C, int, int], tuple[int, str]]) -> None:
        """The options that every task has.

        Args:
            images: how many there are to train on.
            largest: the largest batch that fits, and why, from options that are complete but for the schedule, the
                most images that the data allows, and the usual number.

        Raises:
            UserError: a batch that is larger than the data, or none that fits.
        """
        config, usual, gpu = self.config, USUAL[self.config.task], on_gpu(self.config)
        count = processes(config)
        bf16 = gpu and torch.cuda.is_bf16_supported()
        self.choose("precision", "bf16-mixed" if bf16 else "16-mixed" if gpu else "32-true", "for this device")
        usual_batch = usual.batch_gpu if gpu else usual.batch_cpu
        if config.batch_size == "auto":
            if count > 1:
                raise UserError(
                    "batch_size auto is found by one process alone. Train for a step with --devices 1 --num_nodes 1, "
                    "and give the size that it says to all of them."
                )
            self.config = self.config.replace(batch_size=None)  # type: ignore[assignment]
            fitting, why = largest(self.config, max(2, images // 8), usual_batch)
        else:
            fitting, why = usual_batch, "for a GPU" if gpu else "for a CPU, or few images"
            while fitting > 2 and fitting * 8 > images:
                fitting //= 2
        batch = self.choose("batch_size", fitting, why)
        if batch * count > images:
            together = f" on each of {count} processes" if count > 1 else ""
            raise UserError(
                f"batch_size {batch}{together} is more than the {images} training images. "
                f"Give --batch_size {min(fitting, images // count) or 1}."
            )
        epochs = self.choose("epochs", usual.epochs, "the default")
        total, tuning = batch * config.accumulate * count, config.pretrained or config.checkpoint is not None
        peak = float(f"{usual.rate * (total / usual.rate_images) ** 0.5 * (0.1 if tuning else 1):.2g}")
        why = f"{usual.rate:g} at {usual.rate_images} images an update, by the square root for {total}"
        self.choose("lr", peak, why + (", a tenth to fine-tune" if tuning else ""))
        self.choose("warmup_epochs", round(min(5, epochs / 10), 2), "a tenth of the epochs, at most 5")
        updates = max(1, images // total) * epochs
        decay = round(max(0.0, min(0.9998, 1 - 20 / updates)), 5)
        span = f"the last twentieth of {updates} updates"
        self.choose("ema_decay", decay, f"an average over {span}" if decay else f"no average over {span}")
        workers = min(8, max(1, (os.cpu_count() or 1) // 2))
        self.choose("workers", workers, "for this machine's processors")


def processes(config: TrainConfig) -> int:
    """How many processes will train together."""
    devices = str(config.devices)
    if devices in ("auto", "-1"):
        count = torch.cuda.device_count() if on_gpu(config) else 1
    else:
        count = int(devices) if devices.isdigit() else len(devices.strip(" ,[]").split(","))
    return max(1, count) * config.num_nodes


def on_gpu(config: TrainConfig) -> bool:
    """Whether the training will run on CUDA devices."""
    return torch.cuda.is_available() and config.accelerator in ("auto", "gpu", "cuda")


def on_cpu(config: TrainConfig) -> bool:
    """Whether the training will run on the CPU."""
    others = torch.cuda.is_available() or torch.backends.mps.is_available()
    return config.accelerator == "cpu" or (config.accelerator == "auto" and not others)
