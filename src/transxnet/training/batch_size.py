"""Find the largest batch size that fits into memory, for ``--batch-size auto``."""

import gc
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from transxnet.training.error_messages import describe_training_error, is_out_of_memory
from transxnet.training.plan import Plan
from transxnet.training.trial_steps import run_steps
from transxnet.utils.errors import UserError

MIN_BATCH_SIZE = 2
"""Smallest batch size: a BatchNorm at 1x1 needs two values."""
SHARE_OF_GPU = 0.9
"""Share of GPU memory that a step may use; the rest is for images of other sizes and for fragmentation."""
SHARE_OF_RAM = 0.5
"""Share of free RAM that a step's activations may use; the rest is for gradients, workers and other processes."""


def largest_batch(plan: Plan, limit: int, default: int) -> tuple[int, str]:
    """Find the largest batch size that fits into memory, and return it with the reason.

    On a GPU, runs real training steps and doubles the batch size until a step does not fit. On a CPU, larger batches
    are not faster, so this is the default, or less if the activations saved for the backward pass, measured on two
    images, would take more than half of the free memory.

    Args:
        plan: plan of the training run, with any batch size.
        limit: largest batch size that the data allows.
        default: default batch size on this device.

    Raises:
        UserError: not even two images fit, or a step fails for a reason that the user can fix.
    """
    try:
        if plan.hardware.device == "cuda":
            size = largest_by_trial(lambda batch: _try_step(plan, batch), limit)
            return size, f"the largest that fits into {SHARE_OF_GPU:.0%} of GPU memory, found by trial"
        image = _saved_tensor_bytes(plan, MIN_BATCH_SIZE) / MIN_BATCH_SIZE
    except (RuntimeError, MemoryError) as error:
        if (why := describe_training_error(error, plan.config.replace(batch_size=MIN_BATCH_SIZE))) is not None:
            raise why from error
        raise
    free = free_memory()
    size = largest_by_memory(image, free, min(limit, default))
    known = f"{free / 2**30:.1f} GiB are free" if math.isfinite(free) else "free memory is unknown on this system"
    return size, f"activations take {image / 2**20:.0f} MiB per image, {known}"


def largest_by_trial(step: Callable[[int], bool], limit: int) -> int:
    """Return the largest of 2, 4, 8, ... up to ``limit`` for which ``step`` fits into memory.

    Args:
        step: runs a step with this batch size; returns False or raises an out-of-memory error if it does not fit.
        limit: largest batch size to try.

    Raises:
        UserError: not even two images fit.
    """
    size, fitting = MIN_BATCH_SIZE, 0
    while size <= max(limit, MIN_BATCH_SIZE):
        try:
            fits = step(size)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not fits:
            break
        size, fitting = size * 2, size
    if not fitting:
        raise UserError(_NOTHING_FITS)
    return fitting


def largest_by_memory(image: float, free: float, limit: int) -> int:
    """Return the largest of 2, 4, 8, ... up to ``limit`` that fits into ``SHARE_OF_RAM`` of the free memory.

    Args:
        image: bytes per image.
        free: free bytes.
        limit: largest batch size.

    Raises:
        UserError: not even two images fit.
    """
    fitting = [size for size in (2**power for power in range(1, 20)) if size * image <= SHARE_OF_RAM * free]
    if not fitting:
        raise UserError(_NOTHING_FITS)
    return max([size for size in fitting if size <= limit], default=MIN_BATCH_SIZE)


_NOTHING_FITS = (
    f"a training step with {MIN_BATCH_SIZE} images does not fit into memory. Try --grad-checkpointing, smaller images "
    "(--img-size, --min-size or --crop) or a smaller model."
)


def free_memory(root: Path = Path("/")) -> float:
    """Return the bytes that this process can still allocate: free RAM, or what its cgroups allow if that is less.

    Args:
        root: parent of Linux's ``proc`` and ``sys``; without them, as on other systems, the result is infinite.
    """
    try:
        lines = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text().splitlines())
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    free = int(lines["MemAvailable"].split()[0]) * 1024
    folder = root / "sys/fs/cgroup"
    for name in ("", *next((line for line in groups if line.startswith("0::")), "").split("/")[1:]):
        folder /= name
        with suppress(OSError, ValueError):  # this cgroup has no limit
            limit, used = (int((folder / file).read_text()) for file in ("memory.max", "memory.current"))
            free = min(free, max(0, limit - used))
    return free


def _try_step(plan: Plan, size: int) -> bool:
    """Run two steps on the GPU at this batch size; return whether they stayed within ``SHARE_OF_GPU``."""
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    run_steps(plan, size, device, count=2)  # the second step also holds the optimizer state
    return (
        torch.cuda.max_memory_reserved(device) <= SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory
    )


def _saved_tensor_bytes(plan: Plan, size: int) -> int:
    """Return the bytes of the tensors that a step saves for the backward pass, without the weights."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        run_steps(plan, size, torch.device("cpu"), count=1)
    return sum(sizes.values())
