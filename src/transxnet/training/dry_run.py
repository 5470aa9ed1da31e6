"""Try a training run without writing anything: shapes, memory and time of a step."""

import math
import resource
import sys
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from transxnet.training.error_messages import describe_training_error
from transxnet.training.plan import Plan
from transxnet.training.trial_steps import run_steps
from transxnet.utils.progress import PLAIN
from transxnet.utils.quantities import duration, format_count


def try_steps(plan: Plan, console: Console) -> None:
    """Run two training steps and print the batch, the model, and the memory and time that a step takes.

    The second step is timed: the first one also allocates memory.

    Raises:
        UserError: a step fails for a reason that the user can fix.
    """
    config = plan.config
    assert isinstance(config.batch_size, int) and config.epochs is not None
    console.print("running two steps", **PLAIN)
    device = torch.device({"cuda": "cuda", "cpu": "cpu"}.get(plan.hardware.device, "mps"))
    try:
        batch, (_, (loss, seconds)) = run_steps(plan, config.batch_size, device, count=2)
    except (RuntimeError, ValueError, MemoryError) as error:
        if (known := describe_training_error(error, config)) is not None:
            raise known from error
        raise
    steps = math.ceil(len(plan.source.train_items) / (config.batch_size * plan.hardware.processes))
    epochs = config.epochs + config.cooldown_epochs
    lines = {
        "batch": "; ".join(_shapes(batch)),
        "model": f"{sum(parameter.numel() for parameter in plan.model.parameters()):,} parameters",
        "loss": f"{loss:.4g}",
        "step": f"{duration(seconds)} on {device.type}",
        "memory": _memory(device),
        "training": f"{format_count(epochs, 'epoch')} of {format_count(steps, 'step')}, about "
        f"{duration(seconds * steps * epochs)}, without loading and validation",
    }
    for name, text in lines.items():
        console.print(f"  {name:<10}{text}", **PLAIN)
    console.print("dry run: nothing was written", **PLAIN)


def _shapes(batch: Any) -> list[str]:
    """Describe the tensors of a batch; in a list with a value for each image, those of the first."""
    if isinstance(batch, Tensor):
        return [f"{str(batch.dtype).removeprefix('torch.')} {'x'.join(map(str, batch.shape)) or 'scalar'}"]
    if isinstance(batch, dict):
        return [f"{name} {text}" for name, value in batch.items() for text in _shapes(value)]
    if isinstance(batch, list) and len({getattr(part, "dtype", type(part)) for part in batch}) == 1:
        return [f"{len(batch)} x ({', '.join(_shapes(batch[0]))})"]
    return [text for part in batch for text in _shapes(part)] if isinstance(batch, (list, tuple)) else [repr(batch)]


def _memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_reserved() / 2**30:.2f} GiB reserved on the GPU at most"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB in this process at most"
