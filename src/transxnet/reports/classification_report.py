"""The report of a classifier: data, confusion matrix, thresholds, mistakes, explanations and calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from transxnet.metrics.binary_curves import BinaryCurves
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.reports.calibration_section import calibration_section
from transxnet.reports.charts import Line, Plot, rate_chart
from transxnet.reports.formatting import confusion_rows, data_url, percent
from transxnet.reports.image_cards import THUMBNAIL, Explain, LoadImage, explain_groups, thumbnail
from transxnet.reports.metric_cells import metric_tile
from transxnet.reports.report_data import Report, TaskPage, Tile

MISTAKES = 12
EXPLAINED_CLASSES = 6
TARGETS = (0.8, 0.9, 0.95)  # recall and precision in the table of thresholds
_SCORES = (
    Line("val_accuracy", "accuracy", "blue"),
    Line("val_balanced_accuracy", "balanced accuracy", "orange", "dashed"),
    Line("val_f1", "F1", "green", "dotted"),
)


def task_page(evaluation: ClassificationEvaluation, report: Report) -> TaskPage:
    """Create the page of a classifier."""
    metrics, curves = evaluation.metrics(), evaluation.binary_curves()
    explanations = None if report.explain is None else _explanations(evaluation, report.explain)
    return TaskPage(
        template="classification.html.jinja",
        images=len(evaluation.labels),
        tiles=_tiles(evaluation, metrics),
        scores=[
            Plot("Scores on validation images", _SCORES, ("most frequent class", metrics["majority"]), in_percent=True)
        ],
        sections=[
            ("data", "Data"),
            ("confusion", "Confusion"),
            ("classes", "Classes"),
            *([("thresholds", "Thresholds")] if curves else []),
            ("mistakes", "Mistakes"),
            *([("explanations", "Grad-CAM")] if explanations else []),
            ("calibration", "Calibration"),
        ],
        content=dict(
            metrics=metrics,
            distribution=_distribution(evaluation, report.train_counts),
            train_images=[(name, data_url(image, THUMBNAIL)) for name, image in report.train_images],
            thresholds=None if curves is None else _thresholds(curves, evaluation.class_names),
            fitted=evaluation.describe_fitted(report.fitted_here),
            confusion=confusion_rows(evaluation.confusion, evaluation.class_names),
            classes=_classes(evaluation),
            mistakes=_mistakes(evaluation, report.image),
            explanations=explanations,
            wrong=int((~evaluation.correct).sum()),
            calibration=calibration_section(evaluation),
        ),
    )


def _tiles(evaluation: ClassificationEvaluation, metrics: Mapping[str, float]) -> list[Tile]:
    labels = evaluation.labels
    most_frequent = evaluation.class_names[int(np.bincount(labels).argmax())]
    gain = 100 * (metrics["accuracy"] - metrics["majority"])
    baseline = f"{abs(gain):.1f} points {'above' if gain >= 0 else 'below'} always predicting “{most_frequent}”"
    tiles = [metric_tile(evaluation, "accuracy", "Accuracy", [f"{baseline} ({percent(metrics['majority'])})"])]
    for label, name, note in [
        ("Balanced accuracy", "balanced_accuracy", "mean recall of the classes"),
        *([("AUROC", "auroc", "area under the ROC curve")] if evaluation.positive is not None else []),
        ("F1 (macro)", "f1", "mean F1 of the classes"),
        ("Weighted accuracy", "weighted_accuracy", "images weighted by label confidence"),
        ("Top-5 accuracy", "top5_accuracy", "true class in the top 5"),
    ]:
        if name in metrics:
            tiles.append(metric_tile(evaluation, name, label, [note]))
    return tiles


def _distribution(
    evaluation: ClassificationEvaluation, train: Sequence[int] | None
) -> list[tuple[str, list[tuple[int, float, float]]]]:
    """Return the name of each class with (images, share of all, share of the largest class) of each set."""
    sets = [np.bincount(evaluation.labels, minlength=len(evaluation.class_names))]
    if train is not None:
        sets.insert(0, np.asarray(train))
    columns = [zip(counts.tolist(), counts / counts.sum(), counts / counts.max(), strict=True) for counts in sets]
    return [(name, list(cells)) for name, *cells in zip(evaluation.class_names, *columns, strict=True)]


def _thresholds(curves: BinaryCurves, names: Sequence[str]) -> dict[str, Any]:
    """Draw the ROC and precision-recall curves, and list thresholds for wanted values of recall and precision."""
    false_positives, recall, thresholds = curves.roc()
    chance = Line("", "chance", "muted", "dashed")
    roc = rate_chart(
        "ROC curve", ("false positive rate", "recall"), false_positives, recall, thresholds, ([0, 1], [0, 1]), chance
    )
    precision, recall, thresholds = curves.precision_recall()
    share = float(curves.labels.mean())
    always = Line("", f"always positive {percent(share)}", "muted", "dashed")
    pr = rate_chart(
        "Precision-recall curve", ("recall", "precision"), recall[::-1], precision[::-1], thresholds[::-1],
        ([0, 1], [share, share]), always,
    )  # fmt: skip
    return {
        "positive": names[curves.positive],
        "negative": names[1 - curves.positive],
        "auroc": curves.auroc,
        "average_precision": curves.average_precision,
        "charts": [roc, pr],
        "rows": [
            *((f"recall of at least {percent(wanted, 0)}", curves.at_recall(wanted)) for wanted in TARGETS),
            *((f"precision of at least {percent(wanted, 0)}", curves.at_precision(wanted)) for wanted in TARGETS),
        ],
    }


def _classes(evaluation: ClassificationEvaluation) -> list[tuple[str, float, float, float, int]]:
    """Return (name, precision, recall, f1, support) of each class, most frequent first."""
    per_class = evaluation.per_class()
    columns = [per_class[name].tolist() for name in ("precision", "recall", "f1", "support")]
    return sorted(zip(evaluation.class_names, *columns, strict=True), key=lambda row: (-row[-1], row[0]))


def _mistakes(evaluation: ClassificationEvaluation, load_image: LoadImage | None) -> list[dict[str, Any]]:
    """Create the cards of the wrong predictions with the highest confidence."""
    labels, predictions, weights = evaluation.labels, evaluation.predictions, evaluation.weights
    return [
        {
            "name": evaluation.names[i],
            "thumbnail": thumbnail(load_image, i),
            "true": evaluation.class_names[labels[i]],
            "true_probability": float(evaluation.probabilities[i, labels[i]]),
            "predicted": evaluation.class_names[predictions[i]],
            "predicted_probability": float(evaluation.probabilities[i, predictions[i]]),
            "weight": 1.0 if weights is None else float(weights[i]),
        }
        for i in evaluation.most_confident(MISTAKES, correct=False).tolist()
    ]


def _explanations(evaluation: ClassificationEvaluation, explain: Explain) -> dict[str, Any]:
    """Explain the most confident correct and wrong prediction of each class, or give the reason if that fails.

    Of many classes, those with the lowest recall are explained.
    """
    per_class = evaluation.per_class()
    recall = np.where(per_class["support"], per_class["recall"], np.inf)
    lowest = np.argsort(recall, kind="stable")[:EXPLAINED_CLASSES]
    groups = []
    for label in sorted(lowest.tolist()):
        shown = [i for correct in (True, False) for i in evaluation.most_confident(1, correct, label).tolist()]
        examples = [(i, evaluation.names[i], _explanation_note(evaluation, i)) for i in shown]
        groups.append((evaluation.class_names[label], examples, None))
    return explain_groups(groups, explain)


def _explanation_note(evaluation: ClassificationEvaluation, index: int) -> str:
    predicted, label = evaluation.predictions[index], evaluation.labels[index]
    probability = percent(float(evaluation.probabilities[index, predicted]))
    return f"{'Correct' if predicted == label else 'Wrong'}: {evaluation.class_names[predicted]}, {probability}"
