"""Memory and time of a training step with and without gradient checkpointing.

    python -m benchmarks.checkpointing --model transxnet_t --size 224 --batch 8

Each row is measured in its own process: peak memory above that before the step (weights, gradients and libraries), and
the seconds of a second step. Stages are checkpointed starting at the first, where the maps are largest.
"""

import argparse
import json
import subprocess
import sys
import time

ROWS = {"none": 0, "stage 1": 1, "stages 1 and 2": 2, "all": 4}


def measure(name: str, size: int, batch: int, stages: int) -> dict[str, float]:
    """Peak memory in MiB and seconds of a training step, in this process."""
    import timm
    import torch

    import transxnet  # noqa: F401  # registers the models
    from transxnet.benchmark.memory import reset_peak, resident_memory

    torch.manual_seed(0)
    model = timm.create_model(name, img_size=size).train()
    model.set_grad_checkpointing(stages=stages)
    images, labels = torch.randn(batch, 3, size, size), torch.randint(0, 1000, (batch,))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def step() -> float:
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        return time.perf_counter() - start

    model(images[:2])  # allocates the libraries' buffers
    before = resident_memory()
    reset_peak("cpu")
    step()
    peak = resident_memory("VmHWM")
    return {"peak_mib": (peak - before) / 2**20, "seconds": step()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transxnet_t")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--stages", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stages is not None:
        print(json.dumps(measure(options.model, options.size, options.batch, options.stages)))
        return
    for row, stages in ROWS.items():
        words = [sys.executable, "-m", "benchmarks.checkpointing", "--model", options.model, "--stages", str(stages)]
        words += ["--size", str(options.size), "--batch", str(options.batch)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        figures = json.loads(done.stdout.splitlines()[-1])
        print(f"{row:<16} {figures['peak_mib']:7.0f} MiB {figures['seconds']:7.1f} s", flush=True)


if __name__ == "__main__":
    main()
