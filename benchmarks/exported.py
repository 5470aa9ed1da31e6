"""Speed of exported networks in their runtimes, interleaved: images per second, and the ratio to the first network.

    python -m benchmarks.exported --batch 16 1 --rounds 5 --out exported.json
    python -m benchmarks.exported --between-runtimes --runtimes onnxruntime-fp32 executorch-fp32 ncnn-fp32 \
        --models ours --batch 1 --threads 1

"published" is ``benchmarks/plain_reference.py``, the network computed as in the published code. It and timm's networks
use PyTorch's ONNX exporter and the runtime's own converter. "ours" is the export of ``transxnet export`` with a fixed
batch size, "ours-open" with a dynamic one, and "ours-int8" the first quantized as by ``--int8``, for OpenVINO, only if
requested. Weights are random. All networks of a runtime are open at once. Each round measures every network for some
time, interleaved, so that machine noise affects all equally. With --between-runtimes, the runtimes of each network are
interleaved instead.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import openvino
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from benchmarks.plain_reference import compute_plainly
from transxnet.deploy.export_graphs import ClassifierGraph, InputNormalization
from transxnet.deploy.format_onnx import to_onnx
from transxnet.deploy.format_openvino import convert
from transxnet.deploy.format_registry import FORMATS
from transxnet.deploy.metadata import Metadata
from transxnet.deploy.quantizable_model import QuantizableOpenVino
from transxnet.deploy.reparameterize import reparameterize
from transxnet.deploy.trace import example_images, trace
from transxnet.models.create import create_model
from transxnet.utils.environment import collect_environment

RUNTIMES = {
    "openvino-bf16": ("openvino", "bfloat16"),
    "openvino-fp32": ("openvino", "float32"),
    "onnxruntime-fp32": ("onnx", "float32"),
    "executorch-fp32": ("executorch", "float32"),
    "ncnn-fp32": ("ncnn", "float32"),
    "ncnn-fp16": ("ncnn", "float16"),
}
"""The last three only take batches of one image."""
DEFAULT_RUNTIMES = ("openvino-bf16", "openvino-fp32", "onnxruntime-fp32")
MODELS = ("published", "ours", "ours-open", "swin_tiny_patch4_window7_224", "convnext_tiny")


def network(name: str, variant: str, size: int) -> nn.Module:
    """Create a network by its name here, or by timm's."""
    torch.manual_seed(0)
    ours = name == "published" or name.startswith("ours")
    model = (create_model(variant, img_size=size) if ours else create_model(name)).eval()
    stir(model)
    if name == "published":
        return compute_plainly(model).eval()
    return reparameterize(model, (size, size)) if ours else model


@torch.no_grad()
def stir(model: nn.Module) -> None:
    """Move all weights away from their initial zeros and ones, which a runtime would optimize away."""
    for weight in model.parameters():
        weight += 0.02 * torch.randn_like(weight)


def write(name: str, variant: str, runtime: str, batch: int, size: int, folder: Path) -> Path:
    """Export a network for a runtime."""
    format, dtype = RUNTIMES[runtime]
    path = folder / f"{name}-{runtime}-{batch}{FORMATS[format].suffix}"
    plain = InputNormalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), False, torch.float32)
    graph = ClassifierGraph(plain, network(name, variant, size)).eval()
    dynamic = ("batch",) if name.endswith("-open") else ()
    program = trace(graph, example_images((size, size), batch, False, dynamic), dynamic)
    if name == "ours-int8":
        write_int8(program, batch, size, path)
    elif name.startswith("ours"):
        FORMATS[format].write(program, ["logits"], texts(variant, batch, size, dtype), dtype, path)
    else:
        write_plainly(program, format, path)
    return path


def texts(variant: str, batch: int, size: int, dtype: str) -> dict[str, str]:
    """Metadata that the formats require."""
    return Metadata(
        task="classify",
        model=variant,
        source="untrained",
        class_names=[],
        input="float32",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        size=(size, size),
        batch=batch,
        dynamic=(),
        resize={},
        outputs=("logits",),
        score_threshold=0.0,
        dtype=dtype,
        versions={},
    ).to_texts()


def write_plainly(program: ExportedProgram, format: str, path: Path) -> None:
    """Export with PyTorch's exporter alone, without this package's optimizations; OpenVINO also goes through ONNX."""
    onnx = path.with_suffix(".onnx")
    torch.onnx.export(program, (), onnx, dynamo=True, input_names=["images"], output_names=["logits"], verbose=False)
    if format == "openvino":
        openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)


def write_int8(program: ExportedProgram, batch: int, size: int, path: Path) -> None:
    """Quantize this package's export, calibrated on noise: only its speed matters here."""
    import nncf  # takes seconds, and is needed only here

    model = QuantizableOpenVino(convert(to_onnx(program, ["logits"], queries_last=True)))
    noise = nncf.Dataset([example_images((size, size), batch, False).numpy() for _ in range(2)])
    ignored = nncf.IgnoredScope(names=model.ignored_names(), validate=False)
    small = nncf.quantize(model.model, noise, ignored_scope=ignored, subset_size=2)
    openvino.save_model(small, path, compress_to_fp16=False)


def rate(session: Callable[[Tensor], Any], images: Tensor, seconds: float) -> float:
    """Images per second, over as many calls as fit."""
    start, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not calls:
        session(images)
        calls += 1
    return calls * len(images) / spent


def measure(networks: dict[str, tuple[str, str]], batch: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Measure the rates of networks, each a name and a runtime, in every round."""
    images = example_images((args.size, args.size), batch, False)
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for label, (name, runtime) in networks.items():
            print(f"  exporting {label}", flush=True)
            format, dtype = RUNTIMES[runtime]
            path = write(name, args.variant, runtime, batch, args.size, Path(folder))
            sessions[label] = FORMATS[format].open(path, dtype, args.threads)
        for session in sessions.values():
            session(images)
        rates: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(args.rounds):
            for name, session in sessions.items():
                rates[name].append(rate(session, images, args.seconds))
    return rates


def report(rates: dict[str, list[float]]) -> None:
    """Print the medians, and the ratios to the first with their range over the rounds."""
    first = next(iter(rates))
    for name, values in rates.items():
        ratios = [value / base for value, base in zip(values, rates[first], strict=True)]
        print(
            f"    {name:<32}{statistics.median(values):8.1f} img/s  {statistics.median(ratios):5.2f}x "
            f"({min(ratios):.2f}-{max(ratios):.2f})",
            flush=True,
        )


def print_environment(formats: Iterable[str]) -> dict[str, str]:
    """Print and return hardware and versions, also of the packages that write and run these formats."""
    facts = collect_environment()
    for format in formats:
        facts |= FORMATS[format].versions()
    print("\n".join(f"{name:<14}{fact}" for name, fact in facts.items()), flush=True)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--variant", default="transxnet_t", help="of published and ours")
    parser.add_argument("--runtimes", nargs="+", default=list(DEFAULT_RUNTIMES), choices=list(RUNTIMES))
    parser.add_argument("--between-runtimes", action="store_true", help="compare the runtimes of each network")
    parser.add_argument("--batch", nargs="+", type=int, default=[16, 1])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each network runs in a round")
    parser.add_argument("--threads", type=int, default=0, help="that compute; 0 for the runtime's choice")
    parser.add_argument("--out", type=Path, help="a JSON file for every round's rates")
    args = parser.parse_args()
    facts = print_environment(RUNTIMES[runtime][0] for runtime in args.runtimes)
    results = []
    if args.between_runtimes:
        groups = {name: {runtime: (name, runtime) for runtime in args.runtimes} for name in args.models}
    else:
        groups = {runtime: {name: (name, runtime) for name in args.models} for runtime in args.runtimes}
    for title, networks in groups.items():
        for batch in args.batch:
            print(f"\n{title}, {args.size}x{args.size}, batch {batch}", flush=True)
            rates = measure(networks, batch, args)
            report(rates)
            results.append(
                {
                    "runtime" if not args.between_runtimes else "network": title,
                    "size": args.size,
                    "batch": batch,
                    "images_per_second": rates,
                }
            )
    if args.out is not None:
        settings = {name: str(value) for name, value in vars(args).items()}
        args.out.write_text(json.dumps({"environment": facts, "settings": settings, "results": results}, indent=2))


if __name__ == "__main__":
    main()
