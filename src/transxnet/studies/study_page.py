"""Write the page of a study."""

from pathlib import Path
from typing import Any

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.metrics.publication_metrics import PUBLICATION_METRICS, ScoredImages
from transxnet.reports.charts import DASHES
from transxnet.reports.formatting import confusion_rows
from transxnet.reports.html_page import flatten_config, load_template
from transxnet.reports.image_cards import thumbnail
from transxnet.studies.fold_results import ArmResult
from transxnet.studies.paired_comparison import ALWAYS_COMPARED, Estimate
from transxnet.studies.study_charts import (
    calibration_charts,
    forest_plot,
    learning_charts,
    rate_charts,
)
from transxnet.studies.study_facts import CAUTION, describe_method, list_notes
from transxnet.studies.study_results import StudyResult
from transxnet.studies.study_tables import format_interval, format_number, format_p
from transxnet.utils.files import write_atomic
from transxnet.utils.quantities import format_count

HARDEST = 12


def write_page(result: StudyResult, images: ClassificationSet) -> Path:
    """Write ``study.html`` into the study's folder, and return its path."""
    path = result.folder.path / "study.html"
    write_atomic(path, to_html(result, images))
    return path


def to_html(result: StudyResult, images: ClassificationSet) -> str:
    """Return a self-contained page.

    Args:
        result: results of the study.
        images: the images of the study, for thumbnails.
    """
    folder = result.folder
    return load_template("study.html.jinja").render(
        title=f"Study on {Path(folder.data).name}",
        result=result,
        subtitle=_subtitle(result),
        metric_names=PUBLICATION_METRICS,
        caution=CAUTION,
        arms=[arm.arm.name for arm in result.arms],
        rows=[
            (PUBLICATION_METRICS[name], [_cell(row[name]) for row in result.estimates.values()])
            for name in result.metrics
        ],
        spread=[(PUBLICATION_METRICS[name], [_spread(arm, name) for arm in result.arms]) for name in result.metrics],
        external=_external(result),
        test_name=Path(folder.test).name if folder.test else "",
        comparisons=[(each, format_p(each.adjusted)) for each in result.comparisons],
        forests=[forest_plot(result, name) for name in dict.fromkeys([folder.metric, *ALWAYS_COMPARED])],
        rates=rate_charts(result),
        calibration=calibration_charts(result),
        confusions=[
            (
                arm.arm.name,
                confusion_rows(ScoredImages.concatenate(arm.pooled).confusion, list(folder.class_names)),
            )
            for arm in result.arms
        ],
        learning=learning_charts(result),
        hardest=_hardest(result, images),
        models=len(result.arms) * len(folder.seeds),
        method=describe_method(result),
        notes=list_notes(result),
        config=[(name, value) for name, value in flatten_config(result.config) if value != "null"],
        environment=list(result.environment.items()),
        dashes=DASHES,
        classes=folder.class_names,
    )


def _subtitle(result: StudyResult) -> str:
    folder, folds = result.folder, result.folds
    images = format_count(len(folds.names), "image")
    if folds.groups is not None:
        images += f" in {format_count(len(np.unique(folds.groups)), 'group')}"
    return (
        f"{format_count(len(result.arms), 'arm')}, {folder.folds} folds, {format_count(len(folder.seeds), 'seed')}; "
        f"out-of-fold predictions for {images} of {len(folder.class_names)} classes."
    )


def _cell(estimate: Estimate) -> tuple[str, str]:
    """Return a value and its interval."""
    return format_number(estimate.value), format_interval(estimate)


def _spread(arm: ArmResult, metric: str) -> tuple[str, str]:
    """Return the mean over the runs, and the standard deviations over folds and seeds."""
    folds, seeds = (format_number(arm.std(metric, over)) for over in ("folds", "seeds"))
    return format_number(arm.mean(metric)), f"± {folds}" + ("" if len(arm.seeds) == 1 else f", ± {seeds}")


def _external(result: StudyResult) -> list[tuple[str, list[tuple[str, str]]]]:
    if result.external is None:
        return []
    rows = result.external.rows.values()
    return [(PUBLICATION_METRICS[name], [_cell(row[name][0]) for row in rows]) for name in result.metrics]


def _hardest(result: StudyResult, images: ClassificationSet) -> list[dict[str, Any]]:
    """Create the cards of the images whose true class gets the lowest mean probability from all models."""
    models = [pooled for arm in result.arms for pooled in arm.pooled]
    labels, rows = result.folds.labels, np.arange(len(result.folds.labels))
    probability = np.mean([model.probabilities[rows, labels] for model in models], axis=0)
    wrong = np.sum([~model.correct for model in models], axis=0)
    position = {name: i for i, name in enumerate(images.own_names)}

    def load(index: int) -> Any:
        try:
            return images.image(position[result.folds.names[index]])
        except (KeyError, UnreadableImage) as error:
            raise OSError(str(error)) from error

    return [
        {
            "name": result.folds.names[i],
            "thumbnail": thumbnail(load, i),
            "label": result.folder.class_names[labels[i]],
            "probability": float(probability[i]),
            "wrong": int(wrong[i]),
        }
        for i in np.lexsort((-wrong, probability))[:HARDEST].tolist()
    ]
