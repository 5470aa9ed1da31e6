"""Messages that explain hardware and PyTorch errors during training."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.utilities.memory import is_oom_error

from transxnet.data.loading.loaders import describe_worker_error
from transxnet.models.model_spec import parse_model_name
from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import Run
from transxnet.training.distributed import is_lost_connection
from transxnet.utils.errors import UserError
from transxnet.utils.option_names import as_option


def describe_training_error(
    error: Exception, config: TrainConfig, run: Run | None = None, processes: int = 1
) -> UserError | None:
    """Describe a training error and how to fix it, or return None if the error is unknown.

    Args:
        error: exception raised during training.
        config: resolved training options.
        run: run folder, if the run has started.
        processes: number of training processes.
    """
    text = str(error)
    if shared_memory := describe_worker_error(error):
        return shared_memory
    if is_out_of_memory(error):
        return UserError(f"{_first_line(text)}\n{_memory_advice(config)}")
    if "deterministic implementation" in text or "deterministic behavior" in text.lower():
        return UserError(f"--deterministic is not supported here: {_first_line(text)} Remove --deterministic.")
    if re.search("more than (1|one) value per channel", text):
        return UserError(
            "BatchNorm needs more than one value per channel to compute a variance, got batch_size "
            f"{config.batch_size}; --accumulate does not change that. Use --batch-size 2, with --grad-checkpointing if "
            "memory is short, or --freeze backbone, whose BatchNorms keep their statistics."
        )
    if run is not None and processes > 1 and is_lost_connection(error):
        return UserError(
            "lost the connection to another training process; see its own error message. "
            f"Resume with: {run.resume_command}\n{_first_line(text)}"
        )
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the GPU or the machine ran out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or is_oom_error(error)


def _memory_advice(config: TrainConfig) -> str:
    """List the options that reduce training memory, most effective first."""
    ways = []
    if not config.grad_checkpointing:
        ways.append("--grad-checkpointing recomputes activations instead of storing them, with equal results")
        if config.checkpointed_stages is None and parse_model_name(config.model).is_transxnet:
            ways[-1] += " (or --checkpointed-stages 2: only the largest ones, which is faster)"
    assert isinstance(config.batch_size, int)
    batch = config.batch_size
    mixed = getattr(config, "mixup", 0) or getattr(config, "cutmix", 0)  # they need even batches
    if batch >= 4 and batch % (4 if mixed else 2) == 0:
        ways.append(
            f"--batch-size {batch // 2} --accumulate {config.accumulate * 2} computes the same updates in smaller steps"
        )
    if config.precision == "32-true":
        ways.append("--precision bf16-mixed halves the memory of activations")
    size = next((name for name in ("img_size", "min_size", "crop") if getattr(config, name, None)), None)
    if size is not None:
        ways.append(f"a smaller {as_option(size)} than {getattr(config, size)}")
    return f"Out of memory at batch_size {batch}. Options that reduce memory: " + "; ".join(ways) + "."


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].partition(" This is typically")[0][:300] or "out of memory"


@contextmanager
def ignore_stored_thread_errors() -> Iterator[None]:
    """Do not print thread errors that are stored and raised again later.

    TensorBoard's writer does this: it raises a disk error at the next value that is written.
    """
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is None or getattr(args.thread, "exception", None) is not args.exc_value:
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
