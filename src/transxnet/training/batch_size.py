"""The largest batch whose training step fits into memory: ``--batch_size auto``."""

import copy
import gc
import math
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from timm.optim import create_optimizer_v2
from torch import Tensor

from transxnet.training.error_messages import describe_training_error, is_out_of_memory
from transxnet.training.plan import Plan
from transxnet.utils.errors import UserError

MIN_BATCH_SIZE = 2
"""Images that a batch must have: a BatchNorm at 1x1 needs two values."""
SHARE_OF_GPU = 0.9
"""Of a GPU's memory that a step may take: pictures of other sizes, and the allocator's gaps, need the rest."""
SHARE_OF_RAM = 0.5
"""Of the free memory that a step's activations may take: their gradients, the decoding workers and others need it."""


def largest_batch(plan: Plan, limit: int, default: int) -> tuple[int, str]:
    """The number of images a step, and why.

    On a GPU by trying real training steps, doubling until one does not fit. On a CPU, where larger batches bring no
    speed, the usual number, or fewer if what a step keeps for its backward pass would take more than half of the free
    memory; that is measured on two images.

    Args:
        plan: of the training, with any batch size.
        limit: the largest that the data allows.
        default: the default on this device.

    Raises:
        UserError: not even two images fit, or a step fails by what the user can mend.
    """
    try:
        if plan.hardware.device == "cuda":
            size = largest_by_trial(lambda batch: _try_step(plan, batch), limit)
            return size, f"the largest that fits into {SHARE_OF_GPU:.0%} of the GPU's memory, by trying"
        image = _saved_tensor_bytes(plan, MIN_BATCH_SIZE) / MIN_BATCH_SIZE
    except (RuntimeError, MemoryError) as error:
        if (why := describe_training_error(error, plan.config.replace(batch_size=MIN_BATCH_SIZE))) is not None:
            raise why from error
        raise
    free = free_memory()
    size = largest_by_memory(image, free, min(limit, default))
    known = f"{free / 2**30:.1f} GiB are free" if math.isfinite(free) else "this system does not say what is free"
    return size, f"an image's activations take {image / 2**20:.0f} MiB, and {known}"


def largest_by_trial(step: Callable[[int], bool], limit: int) -> int:
    """The largest of 2, 4, 8, ... up to ``limit`` for which ``step`` says that it fits.

    Args:
        step: makes a step with so many images; says False, or raises an error of memory, where it does not fit.
        limit: no more is tried.

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
    """The largest of 2, 4, 8, ... up to ``limit`` images of so many bytes that fit into their share of the free ones.

    Raises:
        UserError: not even two images fit.
    """
    fitting = [size for size in (2**power for power in range(1, 20)) if size * image <= SHARE_OF_RAM * free]
    if not fitting:
        raise UserError(_NOTHING_FITS)
    return max([size for size in fitting if size <= limit], default=MIN_BATCH_SIZE)


_NOTHING_FITS = (
    f"a training step of {MIN_BATCH_SIZE} images does not fit into memory. What helps: --grad_checkpointing, a smaller "
    "size of the images (--img_size, --min_size or --crop), a smaller model."
)


def free_memory(root: Path = Path("/")) -> float:
    """Bytes that this process can still take: what is free on the machine, or to its control groups if that is less.

    Args:
        root: where Linux's own files are; without them, as on other systems, there is no bound that we know.
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
        with suppress(OSError, ValueError):  # this group has no bound
            limit, used = (int((folder / file).read_text()) for file in ("memory.max", "memory.current"))
            free = min(free, max(0, limit - used))
    return free


def _try_step(plan: Plan, size: int) -> bool:
    """Make two steps on the GPU with so many images; whether they stayed within its share of the memory."""
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    _steps(plan, size, device, count=2)  # the second also holds what the optimiser remembers of the first
    return (
        torch.cuda.max_memory_reserved(device) <= SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory
    )


def _saved_tensor_bytes(plan: Plan, size: int) -> int:
    """Bytes of the tensors that a step of so many images keeps for its backward pass, the weights left out."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _steps(plan, size, torch.device("cpu"), count=1)
    return sum(sizes.values())


def _steps(plan: Plan, size: int, device: torch.device, count: int) -> None:
    """Training steps as the trainer makes them, on a copy of the model."""
    config = plan.config.replace(batch_size=size, workers=0, ema_decay=0.5, compile=False)
    trial = replace(plan, config=config, model=copy.deepcopy(plan.model))
    batch: Any = move_data_to_device(next(iter(trial.data_module().train_dataloader())), device)
    module = trial.training_module().to(device).train()
    optimizer = create_optimizer_v2(module.model, config.opt, lr=1e-6, weight_decay=config.weight_decay)
    narrow = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(str(config.precision))
    for _ in range(count):
        with nullcontext() if narrow is None else torch.autocast(device.type, narrow):
            loss = torch.stack(list(module.losses(batch).values())).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
