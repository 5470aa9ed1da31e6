"""Peak rates of this machine: bytes per second of a copy, MACs per second of a matrix product.

Every lower bound in benchmarks/README.md is work divided by one of these rates. Run: python benchmarks/rates.py
"""

import time
from collections.abc import Callable, Sequence

import torch


def interleaved_medians(steps: Sequence[Callable[[], object]], device: str, rounds: int = 15) -> list[float]:
    """The median seconds of each step after a warm-up, interleaved: each round runs all steps."""
    seconds: list[list[float]] = [[] for _ in steps]
    for i in range(rounds + 3):
        for step, taken in zip(steps, seconds, strict=True):
            if device == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if i >= 3:
                taken.append(time.perf_counter() - start)
    return [sorted(taken)[rounds // 2] for taken in seconds]


def copy_rate(device: str, megabytes: int = 512) -> float:
    """Bytes per second, read and written, of a large copy."""
    source = torch.randn(megabytes * 2**18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / interleaved_medians([lambda: target.copy_(source)], device)[0]


def product_rate(device: str, dtype: torch.dtype) -> float:
    """MACs per second of a square matrix product."""
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return side**3 / interleaved_medians([lambda: a @ b], device)[0]


def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}")
    print(f"copy               {copy_rate(device) / 1e9:10.1f} GB/s read and written")
    for dtype in (torch.float32, torch.bfloat16):
        rate = product_rate(device, dtype) / 1e9
        print(f"product, {str(dtype).removeprefix('torch.'):9s} {rate:10.1f} G MACs/s")


if __name__ == "__main__":
    main()
