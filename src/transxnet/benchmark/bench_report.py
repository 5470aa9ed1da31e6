"""Report a benchmark: a table for the terminal, a JSON file with all measurements, a plot."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from transxnet.benchmark.benchmark_result import Benchmark, BenchmarkRow
from transxnet.benchmark.frontier_chart import plot_frontier
from transxnet.utils.files import write_atomic

FILES = ("bench.json", "bench.png")
LABEL = 50  # characters per line in the plot's labels
MANY_ROUNDS = 10  # from this number on, the range is from the 10th to the 90th percentile

_INK, _LINE, _FIRST, _OTHER = "#1b1f24", "#dfe2e6", "#868e98", "#2f74b5"
"""Colors of text, grid, first bar and other bars; bars differ from page and error bars by a contrast of 3 or more."""


def median_and_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and range: lowest to highest, or with ten or more values the 10th to 90th percentile."""
    outside = 10 if len(values) >= MANY_ROUNDS else 0
    low, middle, high = np.percentile(values, [outside, 50, 100 - outside])
    return float(middle), float(low), float(high)


def show(result: Benchmark) -> Group:
    """Format the benchmark for a terminal of 100 columns or more."""
    settings = result.settings
    height, width = settings.size
    what = {"infer": "inference", "train": "training step"}[settings.mode]
    form = "dense-prediction form" if settings.features else "classifier"
    chip = result.environment.get("gpu" if settings.device == "cuda" else "cpu", settings.device)
    versions = ", ".join(
        f"{name} {result.environment[name]}" for name in ("torch", "timm") if name in result.environment
    )
    around = "10th to 90th percentile" if result.rounds >= MANY_ROUNDS else "range"
    notes = f"median and {around} of {result.rounds} rounds; speedup: relative to the first model, by round"
    idle = [row.facts.idle_memory for row in result.rows if row.facts and settings.device == "cpu"]
    if idle:
        notes += f"\npeak memory: of the process; Python and PyTorch alone take {format_memory(max(idle))}"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("model", overflow="fold")
    accuracy = ("top-1",) if result.accuracies else ()
    for column in (*accuracy, "img/s", "ms/batch", "speedup", "peak\nmemory", "params\nMACs"):
        table.add_column(column, justify="right")
    frontier = result.frontier()
    for row in result.rows:
        table.add_row()
        model, *numbers = _cells(result, row)
        if result.accuracies:
            numbers.insert(0, _accuracy(result, row, row in frontier))
        table.add_row(model, *numbers)
    parts: list[Any] = [
        Text(f"{what}, {form}, {height}x{width}, batch {settings.batch}", style="bold"),
        Text(f"{chip}; {versions}", style="dim"),
        Text(notes, style="dim"),
        Text(""),
        table,
        Text(""),
    ]
    for row in result.rows:
        if row.operators:
            parts += [Text(f"{row.model.label}: {row.model.settings}", style="bold"), _profile(row), Text("")]
    if result.note:
        parts.append(Text(result.note, style="dim"))
    return Group(*parts)


def _accuracy(result: Benchmark, row: BenchmarkRow, on_frontier: bool) -> Text:
    found = result.accuracy(row)
    if found is None:
        return Text("-")
    return _cell(f"{found.top1:.1f}{'*' if on_frontier else ' '}", found.training)


def _cells(result: Benchmark, row: BenchmarkRow) -> Iterator[Text]:
    settings, facts = row.model.settings, row.facts
    words = str(settings)
    if settings.size != result.settings.size:
        words += ", {}x{}".format(*settings.size)
    if row.failure:
        yield _cell(row.model.label, f"{words}\n").append(row.failure.reason, style="red")
        yield from [Text("-")] * 4
    else:
        yield _cell(row.model.label, words)
        middle, low, high = median_and_range(row.milliseconds)
        paper = result.published_speed(row)
        yield _cell(_number(settings.batch / middle * 1e3), f"paper: {paper.images_per_second:,}" if paper else "")
        yield _cell(_number(middle), f"{_number(low)}-{_number(high)}")
        if speeds := result.speeds(row):
            middle, low, high = median_and_range(speeds)
            yield _cell(f"{middle:.2f}x", "" if row is result.rows[0] else f"{low:.2f}-{high:.2f}")
        else:
            yield Text("-")
        yield _cell(format_memory(row.peak_memory), f"paper: {paper.megabytes:,} MB" if paper else "")
    parameters = f"{facts.parameters / 1e6:.1f} M" if facts else "-"
    yield _cell(parameters, f"{facts.multiply_adds / 1e9:.2f} G" if facts and facts.multiply_adds else "-")


def _cell(value: str, below: str = "") -> Text:
    return Text.assemble(value, (f"\n{below}" if below else "", "dim"))


def _profile(row: BenchmarkRow) -> Padding:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("operator", overflow="ellipsis", no_wrap=True, max_width=48)  # compiled graphs have long hashes
    for column in ("share", "ms/batch", "calls"):
        table.add_column(column, justify="right", no_wrap=True)
    for operator in row.operators:
        table.add_row(
            Text(operator.name), f"{operator.share:.1%}", f"{operator.milliseconds:.2f}", f"{operator.calls:g}"
        )
    return Padding(table, (0, 0, 0, 2))


def format_memory(size: int) -> str:
    """Format bytes in decimal units, as papers do: ``"2.25 GB"``, ``"85 MB"``."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _number(value: float) -> str:
    """Format with at least three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def as_json(result: Benchmark) -> dict[str, Any]:
    """All measurements and settings, for the JSON file."""
    content: dict[str, Any] = {
        "command": result.command,
        "settings": asdict(result.settings),
        "rounds": result.rounds,
        "seconds": result.seconds,
        "note": result.note,
        "environment": result.environment,
        "models": [],
    }
    for row in result.rows:
        entry: dict[str, Any] = {
            "model": row.model.label,
            "name": row.model.name,
            "arguments": {name: repr(value) for name, value in row.model.arguments.items()},
            "settings": asdict(row.model.settings),
            "error": asdict(row.failure) if row.failure else None,
            "facts": asdict(row.facts) if row.facts else None,
            "iterations": row.iterations,
            "milliseconds": row.milliseconds,
            "peak_memory": row.peak_memory,
            "operators": [asdict(operator) for operator in row.operators],
        }
        if paper := result.published_speed(row):
            entry["paper"] = asdict(paper)
        if accuracy := result.accuracy(row):
            entry["published_accuracy"] = asdict(accuracy)
        if not row.failure:
            entry["images_per_second"] = [row.model.settings.batch / ms * 1e3 for ms in row.milliseconds]
            entry["median"] = dict(
                zip(("milliseconds", "low", "high"), median_and_range(row.milliseconds), strict=True)
            )
        if speeds := result.speeds(row):
            entry["speeds"] = speeds
            entry["speed"] = dict(zip(("median", "low", "high"), median_and_range(speeds), strict=True))
        content["models"].append(entry)
    return content


def plot(result: Benchmark, path: Path) -> None:
    """Plot images per second as bars, with the speed relative to the first model; failed models are skipped.

    Args:
        result: the result of the benchmark.
        path: a PNG file.
    """
    rows = [row for row in result.rows if not row.failure]
    rates = [median_and_range([row.model.settings.batch / ms * 1e3 for ms in row.milliseconds]) for row in rows]
    settings = result.settings
    with style.context(["default", {"text.color": _INK, "axes.edgecolor": _INK, "font.size": 10}]):
        figure = Figure(figsize=(8, 1.2 + 0.62 * max(1, len(rows))), layout="constrained")
        axes = figure.add_subplot()
        positions = np.arange(len(rows))
        middles = np.array([rate[0] for rate in rates])
        colors = [_FIRST if row is result.rows[0] else _OTHER for row in rows]
        axes.barh(positions, middles, height=0.62, color=colors)
        if rows:
            around = np.abs(np.array([rate[1:] for rate in rates]).T - middles)
            axes.errorbar(middles, positions, xerr=around, fmt="none", ecolor=_INK, elinewidth=1, capsize=3)
        for y, row, rate in zip(positions, rows, rates, strict=True):
            speeds = result.speeds(row)
            ratio = f"  {median_and_range(speeds)[0]:.2f}x" if speeds else ""
            axes.annotate(f"{_number(rate[0])}{ratio}", (rate[2], y), (6, 0), textcoords="offset points", va="center")
        labels = [f"{fill(row.model.label, LABEL)}\n{row.model.settings}" for row in rows]
        axes.set_yticks(positions, labels, fontsize=8.5)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.22 * max((rate[2] for rate in rates), default=1))
        axes.set_xlabel("images per second", color=_INK)
        axes.tick_params(colors=_INK, length=0)
        axes.grid(axis="x", color=_LINE, linewidth=0.8)
        axes.set_axisbelow(True)
        for side in ("top", "right", "bottom"):
            axes.spines[side].set_visible(False)
        height, width = settings.size
        what = {"infer": "Inference", "train": "Training step"}[settings.mode]
        title = f"{what}, {height}x{width}, batch {settings.batch}, {settings.device.upper()}"
        axes.set_title(title, loc="left", fontsize=10.5)
        figure.savefig(path, format="png", dpi=160)  # opaque: legible in light and dark themes


def write(result: Benchmark, folder: Path) -> None:
    """Write the JSON file and the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / FILES[0], json.dumps(as_json(result), indent=2) + "\n")
    chart = plot_frontier if result.accuracies else plot
    write_atomic(folder / FILES[1], lambda path: chart(result, path))
