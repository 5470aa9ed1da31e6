"""How much memory this process holds, and held at its peak."""

import resource
import sys
from pathlib import Path
from typing import Literal

import torch


def reset_peak(device: str) -> None:
    """Let the peak begin anew: PyTorch's on a GPU; the process's on the CPU, where the system allows it (Linux)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory(device: str) -> int:
    """Bytes at the peak: what PyTorch had allocated on the GPU, or what the process held on the CPU."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident_memory("VmHWM")


def resident_memory(which: Literal["VmRSS", "VmHWM"] = "VmRSS") -> int:
    """Bytes of memory that this process holds ("VmRSS"), or held at the peak ("VmHWM"; without Linux always this)."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
