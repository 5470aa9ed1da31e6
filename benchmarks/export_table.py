"""Every export format of trained models in one table: works, checked, size, latency and accuracy lost.

    python -m benchmarks.export_table runs/classifier runs/retinanet runs/maskrcnn runs/segmenter

Each row exports a run, which compares the file with PyTorch; checks the file by ``transxnet verify``; and evaluates the
file on the run's validation images. Latency is that of ``verify``: one image, in the size of the input, all cores.
"""

import argparse
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import transxnet
from benchmarks.exported import print_environment
from transxnet.deploy.format_registry import FORMATS
from transxnet.deploy.verify import accepted_difference
from transxnet.utils.errors import UserError

ROWS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("onnx", {}),
    ("onnx", {"dtype": "float16"}),
    ("onnx", {"int8": True}),
    ("onnx", {"end_to_end": True}),
    ("openvino", {}),
    ("openvino", {"dtype": "bfloat16"}),
    ("openvino", {"int8": True}),
    ("openvino", {"end_to_end": True}),
    ("pt2", {}),
    ("executorch", {}),
    ("ncnn", {}),
    ("ncnn", {"dtype": "float16"}),
)
"""Format and options of each row, for every task. The model of a web page is the first row's."""

METRICS = {"accuracy": "accuracy", "ap": "box AP", "mask_ap": "mask AP", "miou": "mean IoU"}


@dataclass(frozen=True)
class Row:
    """One exported file.

    Attributes:
        difference: relative difference of the reference image's outputs.
        accepted: the largest accepted one.
        megabytes: size on disk.
        latency: milliseconds.
        metrics: of the file on the validation images, 0 to 1.
    """

    difference: float
    accepted: float
    megabytes: float
    latency: float
    metrics: dict[str, float]


def evaluate(model: Path) -> dict[str, float]:
    """Compute the main metrics of a run or a file on the run's validation images."""
    found = transxnet.evaluate(model, workers=0, console=Console(file=io.StringIO())).metrics()
    return {words: found[name] for name, words in METRICS.items() if name in found}


def measure(run: Path, format: str, options: dict[str, Any], folder: Path) -> Row:
    """Export a run, and check and evaluate the file.

    Raises:
        UserError: the run cannot be exported to this format.
    """
    quiet, each = Console(file=io.StringIO()), FORMATS[format]
    lossy = {"allow_accuracy_drop": 100} if "int8" in options else {}  # the table shows the loss
    file = transxnet.export(
        run, format=format, out=folder / f"net{each.suffix}", overwrite=True, console=quiet, **options, **lossy
    )
    result = transxnet.verify(file, console=quiet)
    size = sum(part.stat().st_size for part in each.files(file)) / 1e6
    accepted = accepted_difference(transxnet.read_metadata(file))
    return Row(result.comparison.relative, accepted, size, 1000 * result.latency, evaluate(file))


def cells(row: Row, before: dict[str, float]) -> str:
    """Return the cells of a row after its name."""
    lost = ", ".join(f"{name} {100 * (before[name] - value):+.2f}" for name, value in row.metrics.items())
    return f"yes | {row.difference:.1g} | {row.megabytes:.1f} | {row.latency:.1f} | {lost}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders with validation images")
    formats = list(dict(ROWS))
    parser.add_argument("--formats", nargs="+", choices=formats, default=formats, help="by default all")
    args = parser.parse_args()
    print_environment(args.formats)
    print("\n| run | file | works | difference | MB | ms | points lost |")
    print("|---|---|---|---:|---:|---:|---|", flush=True)
    for run in args.runs:
        before = evaluate(run)
        print(f"| {run.name} | PyTorch | | | | | {', '.join(f'{name} {before[name]:.2%}' for name in before)} |")
        for format, options in (row for row in ROWS if row[0] in args.formats):
            name = " ".join([format, *(str(key if value is True else value) for key, value in options.items())])
            with tempfile.TemporaryDirectory() as folder:
                try:
                    text = cells(measure(run, format, options, Path(folder)), before)
                except UserError as error:
                    text = f"no: {error} | | | |"
            print(f"| {run.name} | {name} | {text} |", flush=True)


if __name__ == "__main__":
    main()
