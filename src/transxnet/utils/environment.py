"""Versions, hardware and commit, stored with each run and benchmark."""

import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from transxnet.version import __version__


def collect_environment() -> dict[str, str]:
    """Collect versions, hardware, commit and date as text."""
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


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the git checkout that this package runs from, if any."""
    here = Path(__file__)
    # An installed package may be inside another project's checkout; ours is the one that tracks this file.
    return _git(here, "ls-files", here.name) and _git(here, "describe", "--always", "--dirty", "--abbrev=12")


def _git(file: Path, *command: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(file.parent), *command], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
