"""Build and load the C kernels for CPUs, with the compiler of this machine.

The library is built at its first use, which takes seconds, and kept in the cache folder. Without a compiler, and on
systems other than Linux, :func:`load_library` returns None and the operators use PyTorch's own kernels.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import torch

from transxnet.utils.files import cache_folder

SOURCES = sorted(Path(__file__).parent.glob("*.[ch]"))
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    """Return the library, or None, and why it cannot be used."""
    if not sys.platform.startswith("linux"):
        return None, f"its C kernel is built on Linux only, not on {sys.platform}"
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, ("gcc", "cc", "clang"))), None)
    if compiler is None:
        return None, "there is no C compiler on this machine (gcc, cc or clang)"
    try:
        path = _cached(compiler)
        if not path.is_file():
            _build(compiler, path)
        return ctypes.CDLL(str(path)), ""
    except subprocess.CalledProcessError as error:
        return None, f"{compiler} cannot build its C kernel: {error.stderr.decode(errors='replace').strip()[-300:]}"
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # such as a machine without a home folder
        return None, f"its C kernel cannot be built or loaded: {error}"


def load_library() -> ctypes.CDLL | None:
    """Return the library, or None if it cannot be built on this machine."""
    return _load()[0]


@torch.compiler.assume_constant_result
def why_unavailable() -> str:
    """Return why the library cannot be used; empty if it can."""
    return _load()[1]


def _cached(compiler: str) -> Path:
    """Return the path of the library for this source, compiler, processor and PyTorch."""
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    try:
        processor = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):  # on other processors the line has another name
        processor = platform.processor()
    text = "\n".join([*FLAGS, torch.__version__, platform.machine(), processor])
    sources = b"".join(source.read_bytes() for source in SOURCES)
    key = hashlib.sha256(sources + version + text.encode()).hexdigest()[:16]
    return cache_folder() / f"kernels-{key}.so"


def _build(compiler: str, path: Path) -> None:
    """Build the library under a temporary name, so that other processes never load an incomplete file.

    PyTorch's own OpenMP runtime is used, which is loaded already: a second one would start threads of its own.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    loaded = hasattr(ctypes.CDLL(None), "GOMP_parallel")
    link = ["-nostdlib", "-lc", "-Wl,--unresolved-symbols=ignore-all"] if loaded else []
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        target = Path(folder) / path.name
        files = [str(source) for source in SOURCES if source.suffix == ".c"]
        command = [compiler, *FLAGS, *files, "-o", str(target), *link]
        subprocess.run(command, capture_output=True, check=True, timeout=120)
        target.replace(path)
