"""Write the page of a study."""

from pathlib import Path
from typing import Any

import numpy as np

from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.metrics.best_epoch import SELECTION_METRICS
from transxnet.reports.charts import DASHES
from transxnet.reports.formatting import confusion_rows
from transxnet.reports.html_page import flatten_config, load_template
from transxnet.reports.image_cards import thumbnail
from transxnet.studies.fold_results import ArmResult, concatenate
from transxnet.studies.folds import StudyImages
from transxnet.studies.paired_comparison import Estimate
from transxnet.studies.study_charts import (
    calibration_charts,
    forest_plot,
    learning_charts,
    rate_charts,
)
from transxnet.studies.study_facts import CAUTION, describe_method, list_notes
from transxnet.studies.study_metrics import metric_title
from transxnet.studies.study_results import StudyResult
from transxnet.studies.study_tables import format_interval, format_number, format_p
from transxnet.utils.files import write_atomic
from transxnet.utils.quantities import format_count

HARDEST = 12


def write_page(result: StudyResult, images: StudyImages) -> Path:
    """Write ``study.html`` into the study's folder, and return its path."""
    path = result.folder.path / "study.html"
    write_atomic(path, to_html(result, images))
    return path


def to_html(result: StudyResult, images: StudyImages) -> str:
    """Return a self-contained page.

    Args:
        result: results of the study.
        images: the images of the study, for thumbnails.
    """
    folder = result.folder
    plotted = dict.fromkeys([folder.metric, *result.arms[0].pooled[0].compared])
    return load_template("study.html.jinja").render(
        title=f"Study on {Path(folder.data).name}",
        result=result,
        subtitle=_subtitle(result),
        metric_names={name: metric_title(name) for name in result.metrics},
        caution=CAUTION,
        arms=[arm.arm.name for arm in result.arms],
        rows=[(metric_title(name), [_cell(row[name]) for row in result.estimates.values()]) for name in result.metrics],
        spread=[(metric_title(name), [_spread(arm, name) for arm in result.arms]) for name in result.metrics],
        external=_external(result),
        test_name=Path(folder.test).name if folder.test else "",
        comparisons=[(each, format_p(each.adjusted)) for each in result.comparisons],
        forests=[forest_plot(result, name) for name in plotted],
        rates=rate_charts(result),
        calibration=calibration_charts(result),
        confusions=_confusions(result),
        learning=learning_charts(result),
        hardest=_hardest(result, images),
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
    return [(metric_title(name), [_cell(row[name][0]) for row in rows]) for name in result.metrics]


def _confusions(result: StudyResult) -> list[tuple[str, Any]]:
    """Return the confusion matrix of each arm of classifiers."""
    if result.folder.task != "classify":
        return []
    names = list(result.folder.class_names)
    return [(arm.arm.name, confusion_rows(concatenate(arm.pooled).confusion, names)) for arm in result.arms]


def _hardest(result: StudyResult, images: StudyImages) -> list[dict[str, Any]]:
    """Create the cards of the images with the lowest mean score from all models.

    The score of a classifier is the probability of the true class, that of a segmenter the mean IoU in the image, that
    of a detector the AP in the image.
    """
    models = [pooled for arm in result.arms for pooled in arm.pooled]
    labels = result.folds.labels
    if labels is None:
        score = np.mean([model.image_scores for model in models], axis=0)
        wrong = np.zeros(len(score), int)
    else:
        score = np.mean([model.probabilities[np.arange(len(labels)), labels] for model in models], axis=0)
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
            "kind": "true" if labels is not None else SELECTION_METRICS[result.folder.config.predicted][1],
            "label": "" if labels is None else result.folder.class_names[labels[i]],
            "score": float(score[i]),
            "note": "" if labels is None else f"{wrong[i]} of {format_count(len(models), 'model')} wrong, ",
        }
        for i in np.lexsort((-wrong, score))[:HARDEST].tolist()
        if not np.isnan(score[i])
    ]
