"""Helpers to launch kernels. Does not import Triton."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

# Number of programs that fill a large GPU. Below it, a sum is split into more partial sums.
TARGET_PROGRAMS = 1024


def on_device(x: Tensor) -> AbstractContextManager:
    """Make the tensor's GPU the current one for Triton; does nothing on a CPU (interpreter mode)."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels of a (B, C, H, W) tensor are adjacent in memory; False for a single channel."""
    return x.stride(1) == 1 and x.shape[1] > 1


def empty_output(x: Tensor) -> Tensor:
    """Uninitialized output of a convolution: dense, and channels_last if x is."""
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=layout)
