"""Write the table of an ablation as Markdown, CSV, JSON and HTML, and show it on a terminal."""

import csv
import io
import json
from textwrap import fill
from typing import Any

from matplotlib.ticker import MaxNLocator
from rich.console import Group
from rich.table import Table
from rich.text import Text

from transxnet.ablation.ablation_results import AblationResult, RowResult
from transxnet.benchmark.bench_report import format_memory
from transxnet.reports.charts import Chart, chart_axes, chart_style, css_color, figure_svg
from transxnet.reports.html_page import flatten_config, load_template
from transxnet.utils.files import write_atomic

METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "ap": "AP",
    "ap50": "AP50",
    "miou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
}
"""Column headings of the tables."""


def write_tables(result: AblationResult) -> None:
    """Write ``table.md``, ``table.csv``, ``table.json`` and ``table.html`` into the ablation's folder."""
    path = result.folder.path
    write_atomic(path / "table.md", to_markdown(result))
    write_atomic(path / "table.csv", to_csv(result))
    write_atomic(path / "table.json", json.dumps(to_json(result), indent=2, ensure_ascii=False) + "\n")
    write_atomic(path / "table.html", to_html(result))


def to_markdown(result: AblationResult) -> str:
    """Return the table with its notes, the paper's text on the rows, and the command."""
    headings = _headings(result)
    lines = [
        f"# {_title(result)}",
        "",
        f"`{result.folder.ablation.model}`, {result.num_finished} of {result.folder.num_runs} runs finished. Commit "
        f"{result.environment.get('commit', 'unknown')}, torch {result.environment.get('torch', 'unknown')}.",
        "",
        f"| {' | '.join(headings)} |",
        f"|---|{'---:|' * (len(headings) - 1)}",
        *(f"| {' | '.join([row.variant.label, *_cells(result, row)])} |" for row in result.rows),
        "",
        *(f"- {note}" for note in result.notes),
    ]
    quoted = [(row.variant.label, quote) for row in result.rows for quote in row.variant.quotes]
    if quoted:
        lines += ["", "The paper's text:", "", *(f"- {label}. {quote}" for label, quote in quoted)]
    return "\n".join([*lines, "", "```sh", result.folder.command, "```", ""])


def to_csv(result: AblationResult) -> str:
    """Return one CSV line per row with plain numbers: metrics from 0 to 1, bytes, images per second."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in result.rows for name in row.metrics))
    columns = [f"{name}_{what}" for name in names for what in ("mean", "std")]
    writer = csv.writer(text, lineterminator="\n")
    own = ["row", "label", "model", "parameters", "multiply_adds", "images_per_second", "peak_memory", "n"]
    writer.writerow([*own, *columns, "paper"])
    for row in result.rows:
        cost = (row.parameters, row.multiply_adds, row.images_per_second, row.peak_memory)
        metrics = [value for name in names for value in (row.mean(name), row.std(name))]
        cells = [*cost, len(row.runs), *metrics]
        blank = ["" if value is None else value for value in cells]
        writer.writerow([row.variant.name, row.variant.label, row.model, *blank, " ".join(row.variant.quotes)])
    return text.getvalue()


def to_json(result: AblationResult) -> dict[str, Any]:
    """Return all results, with the metrics of each run."""
    folder = result.folder
    return {
        "table": folder.ablation.name,
        "title": folder.ablation.title,
        "command": folder.command,
        "model": folder.ablation.model,
        "data": folder.options["data"],
        "seeds": list(folder.seeds),
        "spread": "std: standard deviation over the seeds, with n - 1 in the denominator",
        "images": result.images,
        "size": result.size,
        "notes": result.notes,
        "rows": [
            {
                "row": row.variant.name,
                "label": row.variant.label,
                "model": row.model,
                "parameters": row.parameters,
                "multiply_adds": row.multiply_adds,
                "images_per_second": row.images_per_second,
                "peak_memory": row.peak_memory,
                "n": len(row.runs),
                "metrics": {
                    name: {"mean": row.mean(name), "std": row.std(name), "values": values}
                    for name, values in row.metrics.items()
                },
                "runs": {seed: run.path.name for seed, run in row.runs.items()},
                "paper": list(row.variant.quotes),
            }
            for row in result.rows
        ],
        "config": result.config,
        "environment": result.environment,
    }


def to_rich(result: AblationResult) -> Group:
    """Return the table for a terminal of 100 columns or more."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    first, *others = _headings(result)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right")
    for row in result.rows:
        table.add_row(Text(row.variant.label), *_cells(result, row))
    notes = [Text(note, style="dim") for note in result.notes]
    return Group(Text(f"\n{_title(result)}\n", style="bold"), table, Text(""), *notes)


def to_html(result: AblationResult) -> str:
    """Return a self-contained HTML page."""
    return load_template("ablation.html.jinja").render(
        title=_title(result),
        result=result,
        wanted=result.folder.num_runs,
        headings=_headings(result),
        rows=[(row, _cells(result, row), _runs(result, row)) for row in result.rows],
        chart=_chart(result),
        metric=METRIC_NAMES[result.metrics[0]],
        quoted=[(row.variant.label, row.variant.quotes) for row in result.rows if row.variant.quotes],
        config=list(flatten_config(result.config)),
        environment=list(result.environment.items()),
    )


def _title(result: AblationResult) -> str:
    data = str(result.folder.options["data"]).rstrip("/").rpartition("/")[2]
    return f"{result.folder.ablation.title}, on {data}"


def _headings(result: AblationResult) -> list[str]:
    size = f" at {result.size[0]}x{result.size[1]}" if result.size else ""
    return ["row", "params", f"MACs{size}", "img/s", "memory", *(METRIC_NAMES[name] for name in result.metrics)]


def _cells(result: AblationResult, row: RowResult) -> list[str]:
    """Return the cells of a row after its label; unknown values are blank."""
    return [
        "" if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
        "" if row.multiply_adds is None else _multiply_adds(row.multiply_adds),
        "" if row.images_per_second is None else f"{row.images_per_second:,.3g}",
        "" if row.peak_memory is None else format_memory(row.peak_memory),
        *(_spread(row, name) for name in result.metrics),
    ]


def _multiply_adds(number: int) -> str:
    return f"{number / 1e9:.2f} G" if number >= 1e8 else f"{number / 1e6:.1f} M"


def _spread(row: RowResult, metric: str) -> str:
    """Format a metric as ``"82.0 ± 0.4%"``, or as ``"82.0%"`` without a standard deviation."""
    mean, std = row.mean(metric), row.std(metric)
    if mean is None:
        return ""
    return f"{100 * mean:.1f}%" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}%"


def _runs(result: AblationResult, row: RowResult) -> list[tuple[str, str, str]]:
    """Return (seed, main metric, link to the report) of each finished run."""
    values = row.metrics.get(result.metrics[0], [])
    return [
        (str(seed), f"{100 * value:.1f}%", f"{run.path.name}/report.html")
        for (seed, run), value in zip(row.runs.items(), values, strict=True)
    ]


def _chart(result: AblationResult) -> Chart | None:
    """Plot each run as a dot and the mean of each row as a bar; None before the first run is finished."""
    metric, rows = result.metrics[0], result.rows
    if not result.num_finished:
        return None
    with chart_style():
        drawing, axes = chart_axes(height=0.9 + 0.36 * len(rows))
        for y, row in enumerate(rows):
            values = row.metrics.get(metric, [])
            axes.scatter(values, [y] * len(values), 28, color=css_color("blue"), alpha=0.65, linewidths=0, zorder=3)
            mean = row.mean(metric)
            if mean is not None:
                axes.plot([mean, mean], [y - 0.3, y + 0.3], color=css_color("orange"), linewidth=2.5, zorder=2)
        axes.set_yticks(range(len(rows)), [fill(row.variant.label, 24) for row in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.set_xlabel(METRIC_NAMES[metric])
        svg = figure_svg(drawing, "rows", f"{METRIC_NAMES[metric]} of each run, by row")
    return Chart(f"{METRIC_NAMES[metric].capitalize()} of each run", svg, ())
