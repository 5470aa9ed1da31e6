"""Throughput of models against each other, interleaved in one run, so that a machine's moods hit all alike.

    python benchmarks/throughput.py --mode infer --size 224 --batch 16
    python benchmarks/throughput.py --mode train --size 112 --batch 32

Every round times each model once, in turn; a ratio is the median over the rounds of this model's time over the first
model's in the same round. All models run in channels_last, on random images.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from transxnet.analysis.cost import count
from transxnet.models.create import create_model_with
from transxnet.tasks.environment import environment

PEERS = ["transxnet_t", "resnet18", "swin_tiny_patch4_window7_224", "convnext_tiny"]


def make_step(model: nn.Module, mode: str, size: int, batch: int, device: torch.device) -> Callable[[], None]:
    """A function that runs the model once: a forward pass, or in training forward, backward and update."""
    model = model.to(device, memory_format=torch.channels_last).train(mode == "train")
    images = torch.randn(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.randint(0, 1000, (batch,), device=device)

    def infer() -> None:
        with torch.inference_mode():
            model(images)

    def train() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return train if mode == "train" else infer


def measure(steps: dict[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each model's step in each round, after two rounds of warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number >= 2:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Parse, measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=PEERS, help="the first is what the others are compared with")
    parser.add_argument("--mode", choices=["infer", "train"], default="infer")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="where to store the figures")
    args = parser.parse_args()
    device = torch.device(args.device)

    steps, costs = {}, {}
    for name in args.models:
        model, _ = create_model_with(name, {"img_size": args.size})
        costs[name] = count(model, args.size, args.size)
        steps[name] = make_step(model, args.mode, args.size, args.batch, device)
    seconds = measure(steps, args.rounds, device)

    facts = environment() | {"threads": str(torch.get_num_threads()), "device": str(device)}
    console = Console(width=110)
    console.print(
        f"{args.mode}, {args.size}x{args.size}, batch {args.batch}, float32, channels_last, {args.rounds} rounds"
    )
    console.print(", ".join(f"{k} {facts[k]}" for k in ("torch", "timm", "cpu", "gpu", "threads") if k in facts), "\n")
    table = Table("model", "img/s", "min-max", f"speed against {args.models[0]}", "G multiply-adds", box=None)
    first, results = seconds[args.models[0]], {}
    for name, times in seconds.items():
        rates = [args.batch / t for t in times]
        ratio = statistics.median(a / b for a, b in zip(first, times, strict=True))
        macs = costs[name].multiply_adds / 1e9
        results[name] = {"img_per_s": statistics.median(rates), "ratio": ratio, "seconds": times, "gmacs": macs}
        spread = f"{min(rates):.1f}-{max(rates):.1f}"
        table.add_row(name, f"{statistics.median(rates):.1f}", spread, f"{ratio:.2f}x", f"{macs:.2f}")
    console.print(table)
    if args.json:
        content = {"command": vars(args) | {"json": str(args.json)}, "environment": facts, "results": results}
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
