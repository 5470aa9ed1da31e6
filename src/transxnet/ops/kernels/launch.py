"""What every launch needs."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def on_device(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the current one, where Triton launches; nothing to do on a CPU (the interpreter)."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


# Programs that fill a large GPU. Below it, a sum is cut into more parts, which are then added.
WANTED_PROGRAMS = 1024
