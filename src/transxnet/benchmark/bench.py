"""Measure speed and memory of models, interleaved, so that machine noise affects all models equally."""

import inspect
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from rich.console import Console

from transxnet.benchmark import bench_report
from transxnet.benchmark.benchmark_result import Benchmark, BenchmarkRow
from transxnet.benchmark.interleaving import measure_interleaved
from transxnet.benchmark.presets import find_preset
from transxnet.benchmark.settings import Dtype, Mode, Settings, check_compile_mode, parse_benchmark_model
from transxnet.utils.device import resolve_device
from transxnet.utils.environment import collect_environment
from transxnet.utils.errors import UserError, check_at_least, check_one_of
from transxnet.utils.image_size import parse_image_size
from transxnet.utils.option_names import as_option
from transxnet.utils.output_folder import check_output_folder

BATCH = {"cpu": 16, "cuda": 128}
VARIABLES = (
    "OMP_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "GLIBC_TUNABLES",
    "CUDA_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TRANSXNET_OPS",
)


def bench(
    models: str | Sequence[str] = (),
    *,
    mode: Mode = "infer",
    img_size: int | str | tuple[int, int] | None = None,
    batch_size: int | None = None,
    dtype: Dtype = "float32",
    autocast: bool = False,
    compile: bool | str = False,
    channels_last: bool = False,
    reparameterize: bool = False,
    features: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    rounds: int = 9,
    seconds: float = 1.0,
    preset: str | None = None,
    profile: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Benchmark:
    """Measure speed and memory of models, interleaved and relative to the first.

    Each model runs in its own process, on random images with random weights. A training step is forward, cross-entropy
    (in the dense-prediction form the outputs' mean squares), backward and AdamW. After a warm-up come the rounds: in
    each, every model runs for some time, and each round starts with another model. The speed relative to the first
    model is the ratio of two times of the same round. A model that fails is reported in its row's ``failure``.

    Memory on a GPU is PyTorch's peak allocation during the rounds (with CUDA graphs, since the first step). On the CPU
    it is the process's peak resident memory, of which Python and PyTorch alone take 0.3 to 0.8 GB: on Linux since the
    warm-up, elsewhere since the process started. ``torch.backends.cudnn.benchmark`` is on; all else is PyTorch's
    default.

    The processes are spawned: a script that calls this needs ``if __name__ == "__main__":``.

    Args:
        models: names of our models or timm's, or ``module:factory`` for one of your own (a function that returns a
            network, with ``features_only=True`` its dense-prediction form). ``NAME@SETTING,SETTING`` changes
            settings for this model: eager, compile, compile=MODE, size=PIXELS, channels_last, contiguous,
            reparameterize, original (not reparameterized), float32, bfloat16, float16, autocast, cast, and arguments
            of the model.
        mode: a forward pass, or a training step.
        img_size: side of the images in pixels, or HEIGHTxWIDTH; by default 224.
        batch_size: batch size; by default 16 on a CPU, 128 on a GPU.
        dtype: data type. bfloat16 and float16 mean autocast in training (float16 with loss scaling); in inference
            weights and images are cast.
        autocast: use autocast with float32 weights in inference too.
        compile: use torch.compile with the mode default, reduce-overhead, max-autotune or max-autotune-no-cudagraphs.
        channels_last: use the memory layout NHWC.
        reparameterize: use the inference form of our networks, and of timm's that have one.
        features: use the dense-prediction form.
        device: device to run on; by default a GPU if there is one.
        rounds: number of rounds; every model runs once in each.
        seconds: target length of a model's run in a round; at least one step, and on a GPU five.
        preset: models and batch size: table11 or table12 for the paper's tables, as far as the text specifies them, or
            frontier for throughput against published ImageNet accuracy, ours and networks of similar accuracy.
        profile: also list the operators that take the most time.
        out: folder for bench.json (every round's measurements, settings, environment) and bench.png.
        overwrite: overwrite existing files.

    Returns:
        A row for each model.

    Raises:
        UserError: a model, setting or preset does not exist, or the files already exist.
    """
    command = _command(locals())  # at this point, the arguments
    chosen = None if preset is None else find_preset(preset)
    names = [models] if isinstance(models, str) else list(models)
    names = [*(chosen.models if chosen else ()), *names]
    if not names:
        raise UserError(
            "no models given. Name models such as transxnet_t swin_tiny_patch4_window7_224, or use --preset table11."
        )
    check_at_least(1, rounds=rounds)
    if not seconds > 0:
        raise UserError(f"seconds must be positive, got {seconds}.")
    check_one_of(get_args(Mode), mode=mode)
    check_one_of(get_args(Dtype), dtype=dtype)
    where = resolve_device(device, ("auto", "cpu", "cuda")).type
    if batch_size is None:
        batch_size = chosen.batch if chosen else BATCH[where]
    check_at_least(1, batch_size=batch_size)
    settings = Settings(
        mode=mode,
        size=parse_image_size((chosen.size if chosen else 224) if img_size is None else img_size),
        batch=batch_size,
        dtype=dtype,
        autocast=autocast,
        compile=check_compile_mode(compile) if isinstance(compile, str) else "default" if compile else None,
        channels_last=channels_last,
        reparameterize=reparameterize,
        features=features,
        device=where,
    )
    rows = [BenchmarkRow(parse_benchmark_model(name, settings)) for name in names]
    if autocast and not any(row.model.settings.under_autocast for row in rows):
        raise UserError("autocast has no effect in float32. Add --dtype bfloat16 or float16, or omit --autocast.")
    if out is not None:
        check_output_folder(Path(out), bench_report.FILES, overwrite)
    with Console(stderr=True).status("starting") as status:
        measure_interleaved(rows, rounds, seconds, profile, status.update)
    result = Benchmark(rows, settings, rounds, seconds, command, _environment(rows, where))
    if chosen:
        result = replace(result, note=chosen.note, published=chosen.published, accuracies=chosen.accuracies)
    if out is not None:
        bench_report.write(result, Path(out))
    return result


def _environment(rows: Sequence[BenchmarkRow], device: str) -> dict[str, str]:
    """Versions, hardware, and PyTorch settings that affect results and speed."""
    facts = collect_environment() | {"device": device}
    made = next((row.facts for row in rows if row.facts), None)
    if made:
        facts |= {"threads": str(made.threads), "float32 matmul": made.matmul_precision}
    if device == "cuda":
        facts["cudnn"] = f"{torch.backends.cudnn.version()}, benchmark on"
        if made:
            facts["cudnn"] += f", TF32 in float32 convolutions {'on' if made.cudnn_tf32 else 'off'}"
    return facts | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _command(arguments: Mapping[str, Any]) -> str:
    """The command line equivalent to these arguments of :func:`bench`."""
    models = arguments["models"]
    parts = ["transxnet", "bench", *([models] if isinstance(models, str) else models)]
    for name, parameter in inspect.signature(bench).parameters.items():
        value = arguments[name]
        if name == "models" or value == parameter.default:
            continue
        parts.append(as_option(name))
        if value is not True:
            parts.append("x".join(map(str, value)) if isinstance(value, tuple) else str(value))
    return shlex.join(parts)
