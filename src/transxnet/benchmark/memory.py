"""Current and peak memory of this process."""

import resource
import sys
from pathlib import Path
from typing import Literal

import torch


def reset_peak(device: str) -> None:
    """Reset the peak: PyTorch's on a GPU; the process's on the CPU, if the system supports it (Linux)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory(device: str) -> int:
    """Peak bytes: PyTorch's allocations on the GPU, or the process's resident memory on the CPU."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident_memory("VmHWM")


def resident_memory(which: Literal["VmRSS", "VmHWM"] = "VmRSS") -> int:
    """Resident memory of this process in bytes, current ("VmRSS") or peak ("VmHWM"; always, except on Linux)."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(which):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
