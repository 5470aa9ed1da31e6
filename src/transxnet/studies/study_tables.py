"""Write the results of a study as CSV, JSON and LaTeX, and show them on a terminal."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.studies.paired_comparison import ArmComparison, Estimate
from transxnet.studies.study_facts import CAUTION, describe_method, list_notes
from transxnet.studies.study_metrics import SHOWN, metric_title
from transxnet.studies.study_results import StudyResult
from transxnet.utils.files import write_atomic

_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "“": "``", "”": "''",
    "<": r"\textless{}", ">": r"\textgreater{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}  # fmt: skip


def write_tables(result: StudyResult) -> None:
    """Write ``study.csv``, ``study.json`` and ``study.tex`` into the study's folder."""
    path = result.folder.path
    write_atomic(path / "study.csv", to_csv(result))
    write_atomic(path / "study.json", json.dumps(to_json(result), indent=2, ensure_ascii=False) + "\n")
    write_atomic(path / "study.tex", to_latex(result))


def to_csv(result: StudyResult) -> str:
    """Return one CSV line per arm with plain numbers.

    Each metric has the value of the pooled predictions, the limits of its interval, and mean and standard deviations
    of the runs.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    kinds = ("", "_low", "_high", "_mean", "_std_folds", "_std_seeds")
    writer.writerow(["arm", "model", "runs", *(f"{name}{kind}" for name in result.metrics for kind in kinds)])
    for arm in result.arms:
        row: list[Any] = [arm.arm.name, arm.arm.model, len(arm.folds)]
        for name in result.metrics:
            row += _numbers(result.estimates[arm.arm.name][name])
            row += [arm.mean(name), arm.std(name, "folds"), arm.std(name, "seeds")]
        writer.writerow(["" if value is None else value for value in row])
    return text.getvalue()


def to_json(result: StudyResult) -> dict[str, Any]:
    """Return all results as plain data; undefined numbers are null."""
    folder, external = result.folder, result.external
    return plain_data(
        {
            "command": folder.command,
            "data": folder.data,
            "images": len(result.folds.names),
            "folds": folder.folds,
            "seeds": folder.seeds,
            "classes": folder.class_names,
            "positive": folder.positive,
            "metric": folder.metric,
            "resamples": folder.resamples,
            "method": describe_method(result),
            "notes": list_notes(result),
            "best": result.best,
            "arms": [
                {
                    "arm": arm.arm.name,
                    "model": arm.arm.model,
                    "metrics": {
                        name: interval_as_dict(result.estimates[arm.arm.name][name])
                        | {"mean": arm.mean(name), "std_folds": arm.std(name, "folds")}
                        | {"std_seeds": arm.std(name, "seeds"), "runs": arm.by_run[name].tolist()}
                        for name in result.metrics
                    },
                    "runs": [
                        {
                            "run": folder.run(arm.arm, each.fold, each.seed).path.name,
                            "fold": each.fold,
                            "seed": each.seed,
                        }
                        | _describe_choices(each.choices)
                        for each in arm.folds
                    ],
                }
                for arm in result.arms
            ],
            "comparisons": [comparison_as_dict(each, result.best) for each in result.comparisons],
            "test": external
            and {
                "data": external.data,
                "images": external.images,
                "arms": {
                    arm: {name: interval_as_dict(value) | {"std": std} for name, (value, std) in row.items()}
                    for arm, row in external.rows.items()
                },
            },
            "config": result.config,
            "environment": result.environment,
        }
    )


def _describe_choices(choices: FittedChoices | None) -> dict[str, float | None]:
    return {} if choices is None else {"threshold": choices.threshold, "temperature": choices.temperature}


def to_latex(result: StudyResult) -> str:
    """Return a table with a column per arm and one of the differences, for booktabs, and the method."""
    names = [arm.arm.name for arm in result.arms]
    rows = [*_latex_rows(result, {name: result.estimates[name] for name in names})]
    if result.external is not None:
        external = {
            name: {metric: value for metric, (value, _) in row.items()} for name, row in result.external.rows.items()
        }
        title = escape_latex(Path(result.external.data).name)
        rows += [r"\midrule", rf"\multicolumn{{{1 + len(names)}}}{{l}}{{{title}}} \\", *_latex_rows(result, external)]
    header = ["", *map(escape_latex, names)]
    lines = [
        r"% needs \usepackage{booktabs}",
        *_latex_table("l" + "c" * len(names), header, rows, r"Out-of-fold predictions with 95\% intervals."),
    ]
    if result.comparisons:
        header = ["", "", "difference", "test", "adjusted $p$"]
        caption = (
            rf"Differences from {escape_latex(str(result.best))}, with 95\% intervals; $p$ after Holm's correction."
        )
        lines += _latex_table("llccc", header, map(_latex_comparison, result.comparisons), caption)
    lines += [
        escape_latex(describe_method(result)),
        *([escape_latex(CAUTION)] if result.comparisons else []),
    ]
    return "\n".join(lines) + "\n"


def _latex_table(columns: str, header: Sequence[str], rows: Iterable[str], caption: str) -> list[str]:
    """Return the lines of a table and an empty one."""
    return [
        r"\begin{table}",
        r"\centering",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _latex_row(header),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        rf"\caption{{{caption}}}",
        r"\end{table}",
        "",
    ]


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_rows(result: StudyResult, rows: dict[str, dict[str, Estimate]]) -> Iterable[str]:
    for metric in result.metrics:
        cells = [format_estimate(row[metric]) for row in rows.values()]
        yield _latex_row(map(escape_latex, [metric_title(metric), *cells]))


def _latex_comparison(comparison: ArmComparison) -> str:
    difference = comparison.difference
    interval = f"${difference.low:+.3f}$ to ${difference.high:+.3f}$"
    names = [metric_title(comparison.metric), comparison.arm, comparison.test, format_p(comparison.adjusted)]
    metric, arm, test, p = map(escape_latex, names)
    return _latex_row([metric, arm, f"${difference.value:+.3f}$ ({interval})", test, p])


def escape_latex(text: str) -> str:
    """Return a text in which LaTeX's special characters are escaped."""
    return re.sub("|".join(map(re.escape, _LATEX)), lambda found: _LATEX[found[0]], text)


def to_rich(result: StudyResult) -> Group:
    """Return the table for a terminal: the ranking metric first, then some others."""
    shown = list(dict.fromkeys([result.folder.metric, *SHOWN[result.folder.task]]))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("arm", overflow="fold")
    for metric in shown:
        table.add_column(metric_title(metric), justify="right")
    for arm in result.arms:
        row = result.estimates[arm.arm.name]
        table.add_row(Text(arm.arm.name), *(_in_two_lines(row[metric]) for metric in shown))
    compared = [Text(describe_comparison(each, result.best)) for each in result.comparisons]
    return Group(Text(""), table, Text(""), *compared, *(Text(note, style="dim") for note in list_notes(result)))


def _in_two_lines(estimate: Estimate) -> Text:
    """Return a metric and below it its interval, for columns of a narrow terminal."""
    return Text(format_number(estimate.value)).append(f"\n{format_interval(estimate)}", style="dim")


def format_number(value: float | None) -> str:
    """Format a metric with three decimals; n/a if it is undefined."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.3f}"


def format_estimate(estimate: Estimate) -> str:
    """Format a metric with its interval: ``0.912 (0.890 to 0.931)``."""
    return f"{format_number(estimate.value)} ({format_interval(estimate)})"


def format_interval(estimate: Estimate) -> str:
    """Format the interval of a metric: ``0.890 to 0.931``."""
    return f"{format_number(estimate.low)} to {format_number(estimate.high)}"


def describe_comparison(comparison: ArmComparison, best: str | None) -> str:
    """Describe a comparison in one line."""
    difference, p = comparison.difference, format_p(comparison.adjusted)
    return (
        f"{metric_title(comparison.metric)}: {comparison.arm} minus {best} {difference.value:+.3f} "
        f"({difference.low:+.3f} to {difference.high:+.3f}), {comparison.test}, adjusted p {p}"
    )


def format_p(p: float) -> str:
    """Format a p-value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _numbers(estimate: Estimate) -> Sequence[float]:
    return estimate.value, estimate.low, estimate.high


def interval_as_dict(estimate: Estimate) -> dict[str, float]:
    """Return a metric and its interval as plain data."""
    return dict(zip(("value", "low", "high"), _numbers(estimate), strict=True))


def comparison_as_dict(comparison: ArmComparison, best: str | None) -> dict[str, Any]:
    """Return a comparison as plain data."""
    difference = comparison.difference
    return {
        "metric": comparison.metric,
        "arm": comparison.arm,
        "best": best,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p,
        "p_holm": comparison.adjusted,
        "test": comparison.test,
    }


def plain_data(value: Any) -> Any:
    """Return a value for JSON: NaN becomes None."""
    if isinstance(value, dict):
        return {name: plain_data(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_data(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
