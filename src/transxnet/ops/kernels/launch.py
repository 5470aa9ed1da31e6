"""What the launch of any kernel needs. Does not import Triton."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Programs that fill a large GPU. Below it, a sum is split into more parts, which are then added.
TARGET_PROGRAMS = 1024


def on_device(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the current one, where Triton launches; nothing to do on a CPU (the interpreter)."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a (B, C, H, W) tensor are next to each other in memory; False for a single channel."""
    return x.stride(1) == 1 and x.shape[1] > 1


def empty_output(x: Tensor) -> Tensor:
    """Uninitialized memory for a convolution's output: dense, channels_last if x is."""
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=layout)
