"""On what a run or a benchmark was made: versions, hardware, commit."""

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from transxnet.utils.errors import UserError, check_one_of
from transxnet.version import __version__


def environment() -> dict[str, str]:
    """Versions, hardware, commit and date, for people."""
    packages = ("torch", "torchvision", "timm", "lightning", "torchmetrics", "triton")
    facts = {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "transxnet": __version__}
    if commit := _commit():
        facts["commit"] = commit
    facts["python"] = platform.python_version()
    for name in packages:
        with suppress(PackageNotFoundError):  # Triton has no build for every system
            facts[name] = version(name)
    facts |= {"system": platform.platform(), "cpu": f"{_cpu_name()}, {os.cpu_count()} cores"}
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        facts["gpu"] = ", ".join(names) + f", CUDA {torch.version.cuda}"
    return facts


def find_device(device: str) -> str:
    """ "cpu" or "cuda": what was asked for, or with "auto" a GPU if there is one.

    Raises:
        UserError: another name, or there is no GPU.
    """
    check_one_of(("auto", "cpu", "cuda"), device=device)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA device here. Give --device cpu, or leave it out.")
    return device


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that this package runs from, if it runs from one."""
    here = Path(__file__)
    # An installed package may lie within somebody else's checkout; git answers for ours only if it knows this file.
    return _git(here, "ls-files", here.name) and _git(here, "describe", "--always", "--dirty", "--abbrev=12")


def _git(file: Path, *command: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(file.parent), *command], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
