"""Everything to measure on a GPU, in one command of about eight minutes.

Run: python -m benchmarks.gpu OUT [--parts NAME ...] [--rehearse]

The parts run in order of importance, each for a limited time. Each writes its files and its log to OUT/PART; a part
that is complete is skipped, so an interrupted command continues where it stopped. OUT/results.json holds all results,
OUT/tables.md the tables for benchmarks/README.md. --rehearse runs the same commands on the CPU with tiny shapes.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import IO, Any

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable
TRANSXNET = (PYTHON, "-m", "transxnet")
NOT_MEASURED = "not yet measured"
PUBLISHED = "benchmarks.plain_reference:transxnet_t"
MODES = ("infer", "train")


@dataclass(frozen=True)
class Sizes:
    """What is measured: on a GPU, or with tiny shapes on a CPU.

    Attributes:
        device: device of all commands.
        ours: our network.
        peers: networks to compare with.
        dense_peer: network to compare features and detectors with.
        dtype: data type.
        compile: whether compiled networks are measured too.
        size: side of the classifiers' images.
        batch: their batch size.
        large: height and width of the images of features and detectors.
        rounds: rounds of a benchmark.
        seconds: seconds of a model in a round.
        time_factor: multiplies the time of each part.
        tests: tests of the kernels, as arguments of pytest.
        training: arguments of the training.
    """

    device: str
    ours: str
    peers: tuple[str, ...]
    dense_peer: str
    dtype: str
    compile: bool
    size: int
    batch: int
    large: tuple[int, int]
    rounds: int
    seconds: float
    time_factor: float
    tests: tuple[str, ...]
    training: tuple[str, ...]


GPU = Sizes(
    device="cuda",
    ours="transxnet_t",
    peers=("swin_tiny_patch4_window7_224", "convnext_tiny", "resnet50"),
    dense_peer="convnext_tiny",
    dtype="bfloat16",
    compile=True,
    size=224,
    batch=128,
    large=(800, 1280),
    rounds=3,
    seconds=0.5,
    time_factor=1,
    tests=("tests/ops",),
    training=("elpv", "--recipe", "demo", "--model", "transxnet_t"),
)
REHEARSAL = Sizes(
    device="cpu",
    ours="transxnet_n",
    peers=("resnet18",),
    dense_peer="resnet18",
    dtype="float32",
    compile=False,
    size=32,
    batch=2,
    large=(64, 96),
    rounds=1,
    seconds=0.001,
    time_factor=30,  # a rehearsal is about errors, not about time
    tests=("tests/ops/kernels/test_launch.py",),
    training=("digits", "--model", "transxnet_n", "--img-size", "32", "--epochs", "1", "--device", "cpu"),
)


@dataclass(frozen=True)
class Part:
    """Commands to run within a number of seconds, and the Markdown table of the files they write.

    Attributes:
        title: heading of the table.
        seconds: time after which the commands are stopped.
        commands: returns the commands, which write into the given folder.
        table: returns the lines of the table from the files in the folder.
    """

    title: str
    seconds: float
    commands: Callable[[Sizes, Path], list[Sequence[str]]]
    table: Callable[[Path], Iterator[str]]


def kernel_tests(s: Sizes, out: Path) -> list[Sequence[str]]:
    return [(PYTHON, "-m", "pytest", "-q", *s.tests, f"--junitxml={out / 'tests.xml'}")]


def operator_choices(s: Sizes, out: Path) -> list[Sequence[str]]:
    shape = ("--img-size", str(s.size), "--batch-size", str(s.batch), "--dtype", s.dtype, "--device", s.device)
    return [(*TRANSXNET, "doctor", "--measure", "--model", s.ours, "--mode", mode, *shape) for mode in MODES]


def operators(s: Sizes, out: Path) -> list[Sequence[str]]:
    shape = ("--size", str(s.size), "--batch", str(s.batch), "--dtype", s.dtype)
    return [(PYTHON, "benchmarks/operators.py", "--model", s.ours, *shape, "--output", str(out / "operators.json"))]


def inference(s: Sizes, out: Path) -> list[Sequence[str]]:
    return [
        _bench(s, out, _forms(s, f"{s.ours}@reparameterize"), "--img-size", str(s.size), "--batch-size", str(s.batch))
    ]


def training(s: Sizes, out: Path) -> list[Sequence[str]]:
    shape = ("--img-size", str(s.size), "--batch-size", str(s.batch))
    return [_bench(s, out, _forms(s, s.ours), "--mode", "train", *shape)]


def features(s: Sizes, out: Path) -> list[Sequence[str]]:
    compiled = ("--compile",) if s.compile else ()
    models = (s.dense_peer, s.ours)
    return [_bench(s, out / mode, models, "--features", "--mode", mode, *_large(s), *compiled) for mode in MODES]


def detectors(s: Sizes, out: Path) -> list[Sequence[str]]:
    models = [
        f"benchmarks.detectors:retinanet@backbone={name},min_size={s.large[0]}" for name in (s.dense_peer, s.ours)
    ]
    autocast = () if s.dtype == "float32" else ("--autocast",)
    return [_bench(s, out / mode, models, "--mode", mode, *_large(s), *autocast) for mode in MODES]


def elpv(s: Sizes, out: Path) -> list[Sequence[str]]:
    return [(*TRANSXNET, "train", *s.training, "--out", str(out / "run"))]


def _bench(s: Sizes, out: Path, models: Sequence[str], *options: str) -> Sequence[str]:
    effort = ("--rounds", str(s.rounds), "--seconds", str(s.seconds))
    where = ("--channels-last", "--dtype", s.dtype, "--device", s.device, "--out", str(out))
    return (*TRANSXNET, "bench", *models, *options, *effort, *where)


def _forms(s: Sizes, ours: str) -> list[str]:
    """The networks in eager mode, the published one first, and compiled."""
    models = [ours, *s.peers]
    compiled = [f"{name}{',' if '@' in name else '@'}compile" for name in models] if s.compile else []
    return [f"{PUBLISHED}@contiguous,img_size={s.size}", *models, *compiled]


def _large(s: Sizes) -> tuple[str, ...]:
    return "--img-size", "{}x{}".format(*s.large), "--batch-size", "2"


def test_table(out: Path) -> Iterator[str]:
    suites = list(ElementTree.parse(out / "tests.xml").getroot().iter("testsuite"))
    count = {
        name: sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    }
    yield from _markdown(tuple(count), [[str(value) for value in count.values()]])


def log_table(out: Path, lines: int = 200) -> Iterator[str]:
    yield from ("```", *(out / "log.txt").read_text().rstrip().splitlines()[-lines:], "```")


def operator_table(out: Path) -> Iterator[str]:
    results = json.loads((out / "operators.json").read_text())["results"]
    rows = [
        [
            r["operator"],
            str(r["stage"]),
            r["mode"],
            r["implementation"],
            f"{r['milliseconds']:.3f}",
            f"{r['of_copy']:.0%}",
        ]
        for r in results
    ]
    yield from _markdown(("operator", "stage", "mode", "implementation", "ms", "of copy bandwidth"), rows)


def bench_table(out: Path) -> Iterator[str]:
    for path in sorted(out.rglob("bench.json")):
        content = json.loads(path.read_text())
        rows = []
        for model in content["models"]:
            form = "compiled" if model["settings"]["compile"] else "eager"
            if model["error"]:
                rows.append([model["model"], form, model["error"]["reason"], "", "", ""])
                continue
            numbers = f"{median(model['images_per_second']):.1f}", f"{model['median']['milliseconds']:.2f}"
            speed = f"{model['speed']['median']:.2f}x" if "speed" in model else ""
            rows.append([model["model"], form, *numbers, speed, f"{model['peak_memory'] / 1e9:.2f} GB"])
        yield f"`{content['command']}`"
        yield ""
        yield from _markdown(("network", "", "img/s", "ms/batch", "relative to the first", "peak memory"), rows)
        yield ""  # between two tables


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for cells in (header, ["---"] * len(header), *rows):
        yield f"| {' | '.join(cells)} |"


PARTS = {
    "kernels": Part("Tests of the kernels", 60, kernel_tests, test_table),
    "choices": Part("Chosen operators", 40, operator_choices, log_table),
    "inference": Part("Inference", 65, inference, bench_table),
    "training": Part("Training step", 75, training, bench_table),
    "operators": Part("Operators", 25, operators, operator_table),
    "features": Part("Features", 45, features, bench_table),
    "detectors": Part("RetinaNet", 50, detectors, bench_table),
    "elpv": Part("Training on ELPV", 120, elpv, partial(log_table, lines=15)),
}
"""The parts by name, the most important first."""


def run_part(name: str, sizes: Sizes, out: Path) -> dict[str, Any]:
    """Run the commands of a part within its time; return the commands, their exit statuses and the seconds taken."""
    part, folder = PARTS[name], out / name
    shutil.rmtree(folder, ignore_errors=True)  # of an interrupted run
    folder.mkdir(parents=True)
    start, limit, statuses = time.monotonic(), part.seconds * sizes.time_factor, []
    commands = part.commands(sizes, folder)
    with (folder / "log.txt").open("w") as log:
        for command in commands:
            statuses.append(run_within(command, limit - (time.monotonic() - start), log))
    seconds = round(time.monotonic() - start, 1)
    result = {"commands": [" ".join(command) for command in commands], "statuses": statuses, "seconds": seconds}
    (folder / "part.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def run_within(command: Sequence[str], seconds: float, log: IO[str]) -> int | str:
    """Run a command in this repository; stop it and the processes it started after some seconds."""
    if seconds <= 0:
        return "no time left"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "COLUMNS": "120"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return "stopped: no time left"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def write_tables(out: Path) -> None:
    """Write the results of all parts: results.json and tables.md. A part without files is not yet measured."""
    results, lines = {}, []
    for name, part in PARTS.items():
        folder = out / name
        lines += [f"### {part.title}", ""]
        try:
            table = list(part.table(folder))
        except (OSError, ValueError, KeyError, ElementTree.ParseError):  # stopped before its files were complete
            table = []
        lines += [*(table or [NOT_MEASURED]), ""]
        if (folder / "part.json").is_file():
            files = {str(path.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("bench.json")}
            results[name] = json.loads((folder / "part.json").read_text()) | {"benchmarks": files}
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "tables.md").write_text("\n".join(lines))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rehearse", action="store_true")
    given = parser.parse_args(arguments)
    out = given.out.resolve()
    for name in (name for name in PARTS if name in given.parts):
        if (out / name / "part.json").is_file():
            print(f"{name}: complete", flush=True)
            continue
        result = run_part(name, REHEARSAL if given.rehearse else GPU, out)
        write_tables(out)
        print(f"{name}: {result['seconds']:.0f} s, exit statuses {result['statuses']}", flush=True)
    write_tables(out)


if __name__ == "__main__":
    main()
