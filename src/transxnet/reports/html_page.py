"""The page as a whole: what all tasks have in common, around what is particular to one."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from transxnet.metrics.classification import Evaluation
from transxnet.metrics.detection import DetectionEvaluation
from transxnet.reports import classification_report, detection_report, segmentation_report
from transxnet.reports.charts import DASHES, Line, Plot, column, curves
from transxnet.reports.contents import Particulars, Report, Tile
from transxnet.reports.formatting import duration, percent
from transxnet.utils.files import write_atomic

_LOSS = Plot("Loss", (Line("val_loss", "held-out", "blue"), Line("train_loss", "training", "orange", "dashed")))
_RATE = Plot("Learning rate", (Line("lr", "learning rate", "blue"),))


def render(report: Report) -> str:
    """The page as HTML; the same report always gives the same text."""
    particulars = _particulars(report)
    return template(particulars.template).render(
        report=report,
        date=next((value for key, value in report.environment.items() if key.lower() == "date"), None),
        images=particulars.images,
        sections=particulars.sections,
        tiles=[*particulars.tiles, *_training_time(report)],
        charts=curves(report.history, [_LOSS, particulars.scores, _RATE]),
        dashes=DASHES,
        config=list(flat(report.config)),
        **particulars.content,
    )


def template(name: str) -> Template:
    """One of the package's pages, to be filled in."""
    environment = Environment(
        loader=PackageLoader("transxnet"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(name)


def write_report(report: Report, path: Path) -> Path:
    """Write the page to ``path``, whole or not at all, and return the path."""
    page = render(report)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page)
    return path


def _particulars(report: Report) -> Particulars:
    evaluation = report.evaluation
    if isinstance(evaluation, Evaluation):
        return classification_report.particulars(evaluation, report.image, report.explain)
    if isinstance(evaluation, DetectionEvaluation):
        return detection_report.particulars(evaluation)
    return segmentation_report.particulars(evaluation)


def _training_time(report: Report) -> list[Tile]:
    seconds = column(report.history, "seconds")
    if not np.isfinite(seconds).any():
        return []
    epochs = f"{len(seconds)} epoch{'' if len(seconds) == 1 else 's'}"
    return [Tile("Training time", duration(np.nansum(seconds)), [epochs])]


def flat(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, value as one would type it)."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if value is None or isinstance(value, bool) else str(value)
