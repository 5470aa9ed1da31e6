"""Choosing what the user left open, from the data and the hardware, and saying why."""

import os
from typing import Any

import torch

from transxnet.data.sources import Source
from transxnet.data.transforms import Preprocessing
from transxnet.errors import UserError
from transxnet.tasks.config import TrainConfig


def resolve(config: TrainConfig, source: Source, preprocessing: Preprocessing) -> tuple[TrainConfig, list[str]]:
    """Fill in the options that are null.

    Returns:
        The options, complete, and a sentence for each choice.

    Raises:
        UserError: a batch that is larger than the data.
    """
    choices: list[str] = []
    size, gpu = len(source.train), on_gpu(config)

    def choose(name: str, value: Any, why: str) -> Any:
        given = getattr(config, name)
        if given is None:
            choices.append(f"{name} {value}: {why}")
            return value
        return given

    suits = "suits the sample" if source.img_size else "what the model was designed for"
    chosen: dict[str, Any] = {"img_size": choose("img_size", preprocessing.img_size, suits)}
    chosen["crop_pct"] = choose("crop_pct", preprocessing.crop_pct, "the model's own")
    fitting = 128 if gpu else 32
    while fitting > 2 and fitting * 8 > size:
        fitting //= 2
    batch = chosen["batch_size"] = choose("batch_size", fitting, "for a GPU" if gpu else "for a CPU, or few images")
    count = processes(config)
    if batch * count > size:
        together = f" on each of {count} processes" if count > 1 else ""
        raise UserError(
            f"batch_size {batch}{together} is more than the {size} training images. "
            f"Give --batch_size {min(fitting, size // count) or 1}."
        )
    epochs = chosen["epochs"] = choose("epochs", 100, "the default")
    total, tuning = batch * config.accumulate * count, config.pretrained or config.checkpoint is not None
    peak = float(f"{1e-3 * (total / 256) ** 0.5 * (0.1 if tuning else 1):.2g}")
    why = f"1e-3 at 256 images an update, by the square root for {total}" + (", a tenth to fine-tune" if tuning else "")
    chosen["lr"] = choose("lr", peak, why)
    warmup = round(min(5, epochs / 10), 2)
    chosen["warmup_epochs"] = choose("warmup_epochs", warmup, "a tenth of the epochs, at most 5")
    updates = max(1, size // total) * epochs
    decay = round(max(0.0, min(0.9998, 1 - 20 / updates)), 5)
    span = f"the last twentieth of {updates} updates"
    chosen["ema_decay"] = choose("ema_decay", decay, f"an average over {span}" if decay else f"no average over {span}")
    workers = min(8, max(1, (os.cpu_count() or 1) // 2))
    chosen["workers"] = choose("workers", workers, "for this machine's processors")
    bf16 = gpu and torch.cuda.is_bf16_supported()
    precision = "bf16-mixed" if bf16 else "16-mixed" if gpu else "32-true"
    chosen["precision"] = choose("precision", precision, "for this device")
    return config.replace(**chosen), choices


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
