"""The three operators at the shapes of a network: each implementation compared with the reference, and with a copy.

Run: python benchmarks/operators.py [--model transxnet_t] [--size 224] [--batch N] [--dtype bfloat16] [--output FILE]

"of copy" is the time to copy the operator's input to its output, at the rate of a large copy, divided by the operator's
time: at 100% an operator costs nothing but memory traffic. Steps are interleaved, so that machine noise affects all
equally.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from math import ceil
from pathlib import Path

import torch
from rates import copy_rate, interleaved_medians
from torch import Tensor

from transxnet import create_model, ops
from transxnet.ops.attention import biased_attention_cpu, biased_attention_reference
from transxnet.ops.backend import record_choices
from transxnet.ops.dynamic_conv import dynamic_depthwise_conv2d_cpu, dynamic_depthwise_conv2d_reference
from transxnet.ops.multiscale_conv import multiscale_depthwise_conv2d_cpu, multiscale_depthwise_conv2d_reference
from transxnet.utils.environment import collect_environment

REFERENCE: dict[str, Callable[..., Tensor]] = {
    "dynamic_depthwise_conv2d": dynamic_depthwise_conv2d_reference,
    "multiscale_depthwise_conv2d": multiscale_depthwise_conv2d_reference,
    "biased_attention": biased_attention_reference,
}
CPU: dict[str, Callable[..., Tensor]] = {
    "dynamic_depthwise_conv2d": dynamic_depthwise_conv2d_cpu,
    "multiscale_depthwise_conv2d": multiscale_depthwise_conv2d_cpu,
    "biased_attention": biased_attention_cpu,
}


@dataclass(frozen=True)
class Case:
    """An operator with the inputs of a stage: tensors that require gradients, and the call."""

    operator: str
    stage: int
    inputs: list[Tensor]
    call: Callable[..., Tensor]


@dataclass(frozen=True)
class Result:
    """Median milliseconds of a pass, and the fraction of a copy's rate that it reaches."""

    operator: str
    stage: int
    shape: tuple[int, ...]
    mode: str
    implementation: str
    milliseconds: float
    of_copy: float


def multiscale(function: Callable[..., Tensor], x: Tensor, *parameters: Tensor) -> Tensor:
    """Call the function; the public one takes float32 parameters, the others need them in the input's dtype."""
    if function is not ops.multiscale_depthwise_conv2d:
        parameters = tuple(t.to(x.dtype) for t in parameters)
    half = len(parameters) // 2
    return function(x, parameters[:half], parameters[half:])


def cases(model: str, size: int, batch: int, dtype: torch.dtype, device: str) -> Iterator[Case]:
    """All operators of the first block of every stage, on random values."""
    with torch.device("meta"):
        network = create_model(model)

    def rand(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, device=device).to(kind).requires_grad_()

    def image(channels: int, side: int) -> Tensor:
        x = torch.randn(batch, channels, side, side, device=device).to(dtype)
        return x.contiguous(memory_format=torch.channels_last).requires_grad_()

    side = size
    for i, stage in enumerate(network.stages, start=1):
        block = stage.blocks[0]
        side = ceil(side / stage.patch_embed.conv.stride[0])
        keys = ceil(side / stage.sr_ratio) ** 2
        idconv, osra, branches = block.mixer.idconv, block.mixer.osra, list(block.ffn.dwconv)
        K, C, single = idconv.kernel_size, idconv.dim, torch.float32
        yield Case(
            "dynamic_depthwise_conv2d",
            i,
            [image(C, side), rand(batch, C, K, K), rand(batch, C)],
            lambda function, x, w, b: function(x, w, b),
        )
        weights = [rand(*conv.weight.shape, kind=single) for conv in branches]
        biases = [rand(*conv.bias.shape, kind=single) for conv in branches]
        yield Case(
            "multiscale_depthwise_conv2d",
            i,
            [image(block.ffn.expand.out_channels, side), *weights, *biases],
            multiscale,
        )
        heads, d = osra.num_heads, osra.q.out_channels // osra.num_heads
        q, k, v = (rand(batch, n, heads, d) for n in (side * side, keys, keys))
        yield Case(
            "biased_attention",
            i,
            [q, k, v, rand(1, heads, side * side, keys, kind=single)],
            lambda function, q, k, v, b: function(*(t.transpose(1, 2) for t in (q, k, v)), b),
        )


def implementations(operator: str, device: str) -> dict[str, Callable[..., Tensor]]:
    """The implementations available here, the reference first; "auto" is the public function with its own choice."""
    faster = {"cpu": CPU[operator]} if device == "cpu" else {}
    return {"reference": REFERENCE[operator], **faster, "auto": getattr(ops, operator)}


def measure(case: Case, copy_bytes: float, device: str) -> Iterator[Result]:
    """Time the passes of every implementation at one stage."""
    x = case.inputs[0]
    auto = getattr(ops, case.operator)
    with record_choices() as records:
        case.call(auto, *case.inputs)
        with torch.no_grad():
            case.call(auto, *case.inputs)
    learned, inferred = (record.choice.implementation for record in records)
    floor = 2 * x.nbytes / copy_bytes
    functions = implementations(case.operator, device)

    def infer(function: Callable[..., Tensor]) -> None:
        with torch.no_grad():
            case.call(function, *case.inputs)

    def train(function: Callable[..., Tensor]) -> None:
        torch.autograd.grad(case.call(function, *case.inputs).sum(), case.inputs)

    # A backward pass reads the input and the gradient and writes the input's gradient: 2.5 copies with the forward.
    for mode, step, taken, work in (("infer", infer, inferred, 1.0), ("train", train, learned, 2.5)):
        seconds = interleaved_medians([partial(step, function) for function in functions.values()], device)
        for name, took in zip(functions, seconds, strict=True):
            label = f"auto: {taken}" if name == "auto" else name
            yield Result(case.operator, case.stage, tuple(x.shape), mode, label, took * 1e3, work * floor / took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transxnet_t")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = given.batch or (128 if device == "cuda" else 16)
    rate = copy_rate(device)
    print(f"copy: {rate / 1e9:.1f} GB/s")
    print(f"{'operator':28s} stage mode  {'implementation':16s} {'ms':>9s} {'of copy':>8s} {'x reference':>12s}")
    results = []
    for case in cases(given.model, given.size, batch, getattr(torch, given.dtype), device):
        plain: dict[str, float] = {}  # the reference's milliseconds by mode; it is measured first
        for result in measure(case, rate, device):
            results.append(result)
            plain.setdefault(result.mode, result.milliseconds)
            print(
                f"{result.operator:28s} {result.stage:5d} {result.mode:5s} {result.implementation:16s}"
                f" {result.milliseconds:9.2f} {result.of_copy:8.1%} {plain[result.mode] / result.milliseconds:11.2f}x",
                flush=True,
            )
    if given.output:
        facts = {"settings": vars(given) | {"output": None, "batch": batch}, "copy_bytes_a_second": rate}
        given.output.write_text(
            json.dumps(
                facts | {"environment": collect_environment(), "results": [asdict(r) for r in results]}, indent=1
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
