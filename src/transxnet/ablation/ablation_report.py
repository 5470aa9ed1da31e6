"""An ablation's table: for a terminal, as Markdown, CSV and JSON, and as a page in the look of the reports."""

import csv
import io
import json
from textwrap import fill
from typing import Any

from matplotlib.ticker import MaxNLocator
from rich.console import Group
from rich.table import Table
from rich.text import Text

from transxnet.ablation.ablation_folder import AblationResult, RowResult
from transxnet.benchmark.bench_report import format_memory
from transxnet.reports.charts import Chart, chart_axes, chart_style, css_color, figure_svg
from transxnet.reports.html_page import flatten_config, load_template
from transxnet.utils.files import write_atomic

NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "ap": "AP",
    "ap50": "AP50",
    "miou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
}
"""The figures that tables show, in words."""


def write_tables(result: AblationResult) -> None:
    """Write ``table.md``, ``table.csv``, ``table.json`` and ``table.html`` into the ablation's folder."""
    path = result.folder.path
    write_atomic(path / "table.md", as_markdown(result))
    write_atomic(path / "table.csv", as_csv(result))
    write_atomic(path / "table.json", json.dumps(as_json(result), indent=2, ensure_ascii=False) + "\n")
    write_atomic(path / "table.html", page(result))


def title(result: AblationResult) -> str:
    """The table's title and what it was measured on."""
    return f"{result.folder.ablation.title}, on {data_name(result)}"


def data_name(result: AblationResult) -> str:
    """The data's last name, which tells it among those of a user."""
    return str(result.folder.options["data"]).rstrip("/").rpartition("/")[2]


def as_markdown(result: AblationResult) -> str:
    """The table, its notes, what the paper's text says of the rows, and the command."""
    headings = _headings(result)
    lines = [
        f"# {title(result)}",
        "",
        f"`{result.folder.ablation.model}`, {result.finished} of {_wanted(result)} runs finished. Commit "
        f"{result.environment.get('commit', 'unknown')}, torch {result.environment.get('torch', 'unknown')}, "
        f"{result.environment.get('date', '')}.",
        "",
        f"| {' | '.join(headings)} |",
        f"|---|{'---:|' * (len(headings) - 1)}",
        *(f"| {' | '.join([row.variant.label, *_cells(result, row)])} |" for row in result.rows),
        "",
        *(f"- {note}" for note in result.notes),
    ]
    quoted = [(row.variant.label, quote) for row in result.rows for quote in row.variant.quotes]
    if quoted:
        lines += ["", "What the paper's text says:", "", *(f"- {label}. {quote}" for label, quote in quoted)]
    return "\n".join([*lines, "", "```sh", result.folder.command, "```", ""])


def as_csv(result: AblationResult) -> str:
    """A line for each row, with plain numbers: figures between 0 and 1, bytes, images a second."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in result.rows for name in row.figures))
    columns = [f"{name}_{what}" for name in names for what in ("mean", "std")]
    writer = csv.writer(text, lineterminator="\n")
    own = ["row", "label", "model", "parameters", "multiply_adds", "images_per_second", "peak_memory", "n"]
    writer.writerow([*own, *columns, "paper"])
    for row in result.rows:
        cost = (row.parameters, row.multiply_adds, row.images_per_second, row.peak_memory)
        figures = [value for name in names for value in (row.mean(name), row.deviation(name))]
        cells = [*cost, len(row.runs), *figures]
        blank = ["" if value is None else value for value in cells]
        writer.writerow([row.variant.name, row.variant.label, row.model, *blank, " ".join(row.variant.quotes)])
    return text.getvalue()


def as_json(result: AblationResult) -> dict[str, Any]:
    """Everything that is known, each run's figures among it."""
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
                "figures": {
                    name: {"mean": row.mean(name), "std": row.deviation(name), "values": values}
                    for name, values in row.figures.items()
                },
                "runs": {seed: run.path.name for seed, run in row.runs.items()},
                "paper": list(row.variant.quotes),
            }
            for row in result.rows
        ],
        "config": result.config,
        "environment": result.environment,
    }


def show(result: AblationResult) -> Group:
    """The table for a terminal of 100 columns or more."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    first, *others = _headings(result)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right")
    for row in result.rows:
        table.add_row(Text(row.variant.label), *_cells(result, row))
    notes = [Text(note, style="dim") for note in result.notes]
    return Group(Text(f"\n{title(result)}\n", style="bold"), table, Text(""), *notes)


def page(result: AblationResult) -> str:
    """The page as HTML, self-contained."""
    return load_template("ablation.html.jinja").render(
        title=title(result),
        result=result,
        wanted=_wanted(result),
        headings=_headings(result),
        rows=[(row, _cells(result, row), _runs(result, row)) for row in result.rows],
        chart=_chart(result),
        figure=NAMES[result.figures[0]],
        quoted=[(row.variant.label, row.variant.quotes) for row in result.rows if row.variant.quotes],
        config=list(flatten_config(result.config)),
        environment=list(result.environment.items()),
    )


def _headings(result: AblationResult) -> list[str]:
    size = f" at {result.size[0]}x{result.size[1]}" if result.size else ""
    return ["row", "params", f"mult-adds{size}", "img/s", "memory", *(NAMES[name] for name in result.figures)]


def _cells(result: AblationResult, row: RowResult) -> list[str]:
    """A row's cells after its label; what is not known is blank."""
    return [
        "" if row.parameters is None else f"{row.parameters / 1e6:.2f} M",
        "" if row.multiply_adds is None else _multiply_adds(row.multiply_adds),
        "" if row.images_per_second is None else f"{row.images_per_second:,.3g}",
        "" if row.peak_memory is None else format_memory(row.peak_memory),
        *(_spread(row, name) for name in result.figures),
    ]


def _multiply_adds(number: int) -> str:
    return f"{number / 1e9:.2f} G" if number >= 1e8 else f"{number / 1e6:.1f} M"


def _spread(row: RowResult, figure: str) -> str:
    """``"82.0 ± 0.4%"``, or without a spread ``"82.0%"``."""
    mean, deviation = row.mean(figure), row.deviation(figure)
    if mean is None:
        return ""
    return f"{100 * mean:.1f}%" if deviation is None else f"{100 * mean:.1f} ± {100 * deviation:.1f}%"


def _runs(result: AblationResult, row: RowResult) -> list[tuple[str, str, str]]:
    """(seed, figure, link to the report) of each finished run."""
    values = row.figures.get(result.figures[0], [])
    return [
        (str(seed), f"{100 * value:.1f}%", f"{run.path.name}/report.html")
        for (seed, run), value in zip(row.runs.items(), values, strict=True)
    ]


def _wanted(result: AblationResult) -> int:
    return len(result.folder.seeds) * len(result.rows)


def _chart(result: AblationResult) -> Chart | None:
    """Each run as a dot, each row's mean as a bar across them; nothing before the first run is finished."""
    figure, rows = result.figures[0], result.rows
    if not result.finished:
        return None
    with chart_style():
        drawing, axes = chart_axes(height=0.9 + 0.36 * len(rows))
        for place, row in enumerate(rows):
            values = row.figures.get(figure, [])
            axes.scatter(values, [place] * len(values), 28, color=css_color("blue"), alpha=0.65, linewidths=0, zorder=3)
            mean = row.mean(figure)
            if mean is not None:
                axes.plot([mean, mean], [place - 0.3, place + 0.3], color=css_color("orange"), linewidth=2.5, zorder=2)
        axes.set_yticks(range(len(rows)), [fill(row.variant.label, 24) for row in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.set_xlabel(NAMES[figure])
        svg = figure_svg(drawing, "rows", f"{NAMES[figure]} of each run, by row")
    return Chart(f"{NAMES[figure].capitalize()} of each run", svg, ())
