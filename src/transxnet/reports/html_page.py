"""Render a report as an HTML page: the sections of all tasks, and those of its task."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.detection import DetectionEvaluation
from transxnet.metrics.embeddings import EmbeddingEvaluation
from transxnet.metrics.metric_names import METRIC_NAMES
from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.metrics.regression import RegressionEvaluation
from transxnet.reports import (
    classification_report,
    detection_report,
    multilabel_report,
    pretraining_report,
    regression_report,
    segmentation_report,
)
from transxnet.reports.charts import DASHES, Line, Plot, history_charts, history_column
from transxnet.reports.formatting import percent
from transxnet.reports.metric_cells import format_metrics
from transxnet.reports.report_data import Report, TaskPage, Tile
from transxnet.utils.files import write_atomic
from transxnet.utils.quantities import duration, format_count

_LOSS = Plot("Loss", (Line("val_loss", "validation", "blue"), Line("train_loss", "training", "orange", "dashed")))
_RATE = Plot("Learning rate", (Line("lr", "learning rate", "blue"),))
_RATE_OF_STEPS = replace(_RATE, x="step")


def render(report: Report) -> str:
    """Render the page as HTML; the same report always gives the same text."""
    page = _task_page(report)
    return load_template(page.template).render(
        report=report,
        date=next((value for key, value in report.environment.items() if key.lower() == "date"), None),
        images=page.images,
        sections=page.sections,
        metric_table=_metric_table(report),
        image_kind=report.image_kind,
        tiles=[*page.tiles, *_training_time(report)],
        charts=history_charts(report.history, [_LOSS, *page.scores, *([] if report.learning_rate else [_RATE])])
        + history_charts(report.learning_rate, [_RATE_OF_STEPS]),
        dashes=DASHES,
        config=[(name, value) for name, value in flatten_config(report.config) if value != "null"],
        **page.content,
    )


def load_template(name: str) -> Template:
    """Load one of the package's page templates."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    """Create the environment once: it compiles each template once in a process."""
    environment = Environment(
        loader=PackageLoader("transxnet"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment


def write_report(report: Report, path: Path) -> Path:
    """Write the page to ``path`` atomically, and return the path."""
    page = render(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)
    return path


def _task_page(report: Report) -> TaskPage:
    evaluation = report.evaluation
    if evaluation is None:
        return TaskPage("unvalidated.html.jinja", images=0, tiles=[], sections=[])
    if isinstance(evaluation, ClassificationEvaluation):
        return classification_report.task_page(evaluation, report)
    if isinstance(evaluation, MultiLabelEvaluation):
        return multilabel_report.task_page(evaluation, report)
    if isinstance(evaluation, RegressionEvaluation):
        return regression_report.task_page(evaluation, report)
    if isinstance(evaluation, DetectionEvaluation):
        return detection_report.task_page(evaluation)
    if isinstance(evaluation, EmbeddingEvaluation):
        return pretraining_report.task_page(evaluation)
    return segmentation_report.task_page(evaluation)


def _metric_table(report: Report) -> dict[str, object]:
    """Return the names of the evaluated sets, and of each metric its name, and value and interval on each set."""
    sets = [(report.split, report.evaluation), ("test", report.test)]
    known = {name: each for name, each in sets if each is not None}
    cells = [{name: row for name, *row in format_metrics(each)} for each in known.values()]
    names = [name for name in METRIC_NAMES if any(name in of for of in cells)]
    return {
        "columns": [name.capitalize() or "Value" for name in known],
        "rows": [(METRIC_NAMES[name], [of.get(name, ("", "")) for of in cells]) for name in names],
        "methods": [each.intervals.method for each in known.values() if each.intervals.limits],
    }


def _training_time(report: Report) -> list[Tile]:
    seconds = history_column(report.history, "seconds")
    if not np.isfinite(seconds).any():
        return []
    return [Tile("Training time", duration(np.nansum(seconds)), [format_count(len(seconds), "epoch")])]


def flatten_config(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over (dotted name, value as on the command line) of each option."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten_config(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if value is None or isinstance(value, bool) else str(value)
