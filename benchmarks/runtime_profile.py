"""Where the time of an exported network goes, by kind of kernel, in the runtime's own profile.

    python -m benchmarks.runtime_profile --runtimes openvino-bf16 openvino-fp32 onnxruntime-fp32 --batch 1

Networks and files are those of ``benchmarks.exported``. Both networks of a runtime take turns, on one thread.
A kernel's time is the median of its passes; that of a convolution includes the additions and GELUs inside it.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import onnxruntime
import openvino
from torch import Tensor

from benchmarks.exported import RUNTIMES, print_environment, write
from transxnet.deploy.trace import example_images

RUNTIMES_WITH_PROFILE = ("openvino-bf16", "openvino-fp32", "onnxruntime-fp32")
MODELS = ("published", "ours")

PRODUCTS = ("1x1 convolutions", "depthwise convolutions", "other convolutions", "matrix products")
OTHERS = {
    "GELU": "Gelu",
    "other elementwise": "Subgraph Add Mul Div Multiply Sigmoid Eltwise Where",
    "softmax": "Softmax",
    "norms": "MVN InstanceNormalization",
    "pooling and means": "AvgPool AveragePool ReduceMean ReduceSum",
    "layouts, splits and joins": "Reorder ReorderInput ReorderOutput Transpose Reshape Split VariadicSplit Concat "
    "Slice Pad Gather GatherND Squeeze Unsqueeze",
}
"""Kinds of kernels beside the products, and the runtimes' names of them."""


class Profile(Protocol):
    """A network on one thread."""

    def run(self, images: Tensor) -> None:
        """Compute one pass."""

    def times(self) -> dict[tuple[str, str], list[float]]:
        """Return the milliseconds of all passes for each kernel's name and kind."""


def kind_of(operator: str) -> str:
    """Return the kind of a kernel that is not a convolution."""
    if operator in ("MatMul", "FusedMatMul", "Gemm", "FullyConnected"):
        return "matrix products"
    return next((kind for kind, names in OTHERS.items() if operator in names.split()), "other")


def kind_of_convolution(*, depthwise: bool, pointwise: bool) -> str:
    """Return the kind of a convolution."""
    if depthwise:
        return "depthwise convolutions"
    return "1x1 convolutions" if pointwise else "other convolutions"


class OpenVinoProfile:
    """A network in OpenVINO, on one thread."""

    def __init__(self, path: Path, dtype: str):
        precision = {"bfloat16": "bf16", "float32": "f32"}
        options = {"INFERENCE_PRECISION_HINT": precision[dtype], "INFERENCE_NUM_THREADS": 1, "PERF_COUNT": True}
        self._request = openvino.Core().compile_model(path, "CPU", options).create_infer_request()
        self._times: dict[tuple[str, str], list[float]] = defaultdict(list)

    def run(self, images: Tensor) -> None:
        self._request.infer([images.numpy()])
        for node in self._request.profiling_info:
            self._times[node.node_name, self._kind(node)].append(1000 * node.real_time.total_seconds())

    def times(self) -> dict[tuple[str, str], list[float]]:
        return {kernel: times for kernel, times in self._times.items() if any(times)}  # others are inside these

    def _kind(self, node: Any) -> str:
        if node.node_type in ("Convolution", "GroupConvolution"):
            depthwise = node.node_type == "GroupConvolution"
            return kind_of_convolution(depthwise=depthwise, pointwise="1x1" in node.exec_type)
        return kind_of(node.node_type)


class OnnxRuntimeProfile:
    """A network in ONNX Runtime, on one thread."""

    def __init__(self, path: Path, dtype: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(path.with_suffix(""))
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, images: Tensor) -> None:
        self._session.run(None, {"images": images.numpy()})

    def times(self) -> dict[tuple[str, str], list[float]]:
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        for event in json.loads(Path(self._session.end_profiling()).read_text()):
            if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
                times[event["name"], self._kind(event["args"])].append(event["dur"] / 1000)
        return times

    def _kind(self, facts: dict[str, Any]) -> str:
        if facts["op_name"] == "Conv":
            x, weight = (next(iter(shape.values())) for shape in facts["input_type_shape"][:2])
            return kind_of_convolution(depthwise=weight[1] == 1 and x[1] > 1, pointwise=weight[2:] == [1, 1])
        return kind_of(facts["op_name"])


def profile(runtime: str, batch: int, size: int, variant: str, passes: int) -> dict[str, dict[tuple[str, str], float]]:
    """Return the median milliseconds of each kernel, by its name and kind, of each network."""
    format, dtype = RUNTIMES[runtime]
    images = example_images((size, size), batch, False)
    with tempfile.TemporaryDirectory() as folder:
        networks: dict[str, Profile] = {}
        for name in MODELS:
            path = write(name, variant, runtime, batch, size, Path(folder))
            networks[name] = (OpenVinoProfile if format == "openvino" else OnnxRuntimeProfile)(path, dtype)
        for _ in range(passes + 1):
            for network in networks.values():
                network.run(images)
        return {
            name: {kernel: median(times[1:]) for kernel, times in network.times().items()}
            for name, network in networks.items()
        }


def report(kernels: dict[str, dict[tuple[str, str], float]]) -> None:
    """Print a table: milliseconds and number of kernels of each kind, and sums."""
    sums = {name: Counter[str]() for name in kernels}
    counts = {name: Counter(kind for _, kind in each) for name, each in kernels.items()}
    for name, each in kernels.items():
        for (_, kind), milliseconds in each.items():
            sums[name][kind] += milliseconds
    print(f"| milliseconds (kernels) | {' | '.join(kernels)} |\n|---|{'---:|' * len(kernels)}")
    for kind in (*PRODUCTS, *OTHERS, "other"):
        if any(counts[name][kind] for name in kernels):
            print(f"| {kind} |", *(f"{sums[name][kind]:.1f} ({counts[name][kind]}) |" for name in kernels))
    print("| all |", *(f"{sum(sums[name].values()):.1f} ({len(kernels[name])}) |" for name in kernels))
    print("| of them convolutions and products |", *(f"{sum(sums[n][k] for k in PRODUCTS):.1f} |" for n in kernels))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--variant", default="transxnet_t")
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES_WITH_PROFILE), choices=RUNTIMES_WITH_PROFILE)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--passes", type=int, default=30)
    args = parser.parse_args()
    print_environment(RUNTIMES[runtime][0] for runtime in args.runtimes)
    for runtime in args.runtimes:
        print(f"\n{runtime}, {args.size}x{args.size}, batch {args.batch}, one thread\n", flush=True)
        report(profile(runtime, args.batch, args.size, args.variant, args.passes))


if __name__ == "__main__":
    main()
