"""Show a comparison of runs on a terminal, and write it as a page and as JSON."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from transxnet.metrics.best_epoch import SELECTION_METRICS, monitored_metric
from transxnet.metrics.metric_names import METRIC_NAMES, format_metric
from transxnet.metrics.publication_metrics import PUBLICATION_METRICS
from transxnet.reports.charts import DASHES, Chart, Plot, history_charts
from transxnet.reports.html_page import load_template
from transxnet.studies.run_comparison import RunComparison
from transxnet.studies.study_charts import arm_lines
from transxnet.studies.study_facts import RUNS_CAUTION, notes_on_units
from transxnet.studies.study_tables import (
    comparison_as_dict,
    describe_comparison,
    format_interval,
    format_number,
    format_p,
    interval_as_dict,
    plain_data,
)
from transxnet.utils.files import write_atomic
from transxnet.utils.quantities import format_count

FILES = ("compare.html", "compare.json")


def print_comparison(comparison: RunComparison, console: Console) -> None:
    """Print the metrics of the runs, and the paired comparisons."""
    table = Table("", box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in comparison.runs:
        table.add_column(name, overflow="fold", justify="right")
    for name, cells in _metric_rows(comparison):
        table.add_row(name, *cells)
    console.print(table, highlight=False)
    if comparison.paired is not None:
        for each in comparison.paired.comparisons:
            console.print(describe_comparison(each, comparison.paired.best), highlight=False, markup=False)
    for note in list_comparison_notes(comparison):
        console.print(note, style="dim", highlight=False, markup=False)


def write_comparison(comparison: RunComparison, folder: Path) -> list[Path]:
    """Write ``compare.html`` and ``compare.json``, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    page, data = (folder / name for name in FILES)
    write_atomic(page, comparison_html(comparison))
    write_atomic(data, json.dumps(comparison_json(comparison), indent=2, ensure_ascii=False) + "\n")
    return [page, data]


def comparison_json(comparison: RunComparison) -> dict[str, Any]:
    """Return the comparison as plain data."""
    paired = comparison.paired
    return plain_data(
        {
            "runs": {name: str(run.path) for name, run in comparison.runs.items()},
            "split": comparison.split,
            "options": {name: dict(zip(comparison.runs, values, strict=True)) for name, values in comparison.options},
            "metrics": {name: dict(zip(comparison.runs, values, strict=True)) for name, values in comparison.metrics},
            "paired": paired
            and {
                "metric": paired.metric,
                "images": paired.images,
                "groups": paired.groups,
                "positive": paired.positive,
                "best": paired.best,
                "resamples": comparison.resamples,
                "runs": {
                    name: {metric: interval_as_dict(value) for metric, value in row.items()}
                    for name, row in paired.rows.items()
                },
                "comparisons": [comparison_as_dict(each, paired.best) for each in paired.comparisons],
            },
            "notes": list_comparison_notes(comparison),
        }
    )


def comparison_html(comparison: RunComparison) -> str:
    """Return a self-contained page."""
    paired = comparison.paired
    rows = {} if paired is None else paired.rows
    metrics = [] if paired is None else list(next(iter(rows.values())))
    return load_template("compare.html.jinja").render(
        title=f"Comparison of {format_count(len(comparison.runs), 'run')}",
        comparison=comparison,
        runs=list(comparison.runs),
        metric_rows=_metric_rows(comparison, without=metrics),
        paired_rows=[
            (
                PUBLICATION_METRICS[metric],
                [(format_number(row[metric].value), format_interval(row[metric])) for row in rows.values()],
            )
            for metric in metrics
        ],
        comparisons=[] if paired is None else [(each, format_p(each.adjusted)) for each in paired.comparisons],
        metric_names=PUBLICATION_METRICS,
        charts=_charts(comparison),
        notes=list_comparison_notes(comparison),
        dashes=DASHES,
    )


def list_comparison_notes(comparison: RunComparison) -> list[str]:
    """List what a reader of the comparison must know."""
    paired, notes = comparison.paired, []
    if comparison.split == "validation":
        notes.append("The validation images selected the epoch of each run, so these metrics are optimistic.")
    if paired is not None:
        drawn = "groups" if paired.groups is not None else "images"
        notes.append(
            f"Intervals: 95%, percentiles of {comparison.resamples:,} bootstrap resamples of the {drawn}; the same "
            "resamples for all runs. They do not include the variation between trainings."
        )
        notes += notes_on_units(paired.groups or paired.images, grouped=paired.groups is not None)
        if paired.comparisons:
            notes.append(RUNS_CAUTION)
    elif comparison.predicted == "classes":
        notes.append("The runs were not evaluated on the same images and classes, so there are no paired intervals.")
    return notes


def _metric_rows(comparison: RunComparison, without: Collection[str] = ()) -> list[tuple[str, list[str]]]:
    """Return the name of each further metric and its value in each run; empty if a run does not have it."""
    return [
        (METRIC_NAMES[name].strip(), ["" if value is None else format_metric(name, value) for value in values])
        for name, values in comparison.metrics
        if name not in without
    ]


def _charts(comparison: RunComparison) -> list[Chart]:
    """Plot the metric that selects the epoch, and the losses, of all runs."""
    lines = tuple(arm_lines(list(comparison.runs)))
    score, name = monitored_metric(comparison.predicted), SELECTION_METRICS[comparison.predicted][1]
    plots = {
        score: Plot(f"Validation {name}", lines, in_percent=comparison.predicted != "regression", mark_best=False),
        "val_loss": Plot("Loss on validation images", lines, mark_best=False),
        "train_loss": Plot("Training loss", lines, mark_best=False),
    }
    return [
        chart for column, plot in plots.items() for chart in history_charts(_side_by_side(comparison, column), [plot])
    ]


def _side_by_side(comparison: RunComparison, column: str) -> list[dict[str, float]]:
    """Return a row per epoch with a column of each run."""
    rows: dict[float, dict[str, float]] = {}
    for i, history in enumerate(comparison.histories):
        for row in history:
            if column in row:
                rows.setdefault(row["epoch"], {"epoch": row["epoch"]})[f"arm{i}"] = row[column]
    return [rows[epoch] for epoch in sorted(rows)]
