"""The report of a multi-label classifier: labels, thresholds, curves, mistakes, explanations, calibration."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.reports.calibration_section import calibration_section
from transxnet.reports.charts import Chart, Line, Plot, rate_chart
from transxnet.reports.formatting import data_url, percent
from transxnet.reports.image_cards import THUMBNAIL, Example, Explain, LoadImage, explain_groups, thumbnail
from transxnet.reports.metric_cells import metric_tile
from transxnet.reports.report_data import Report, TaskPage, Tile

MISTAKES = 12
DRAWN_LABELS = 6
"""Most labels with curves and explanations: those with the lowest AP."""

_SCORES = (
    Line("val_macro_ap", "mean AP", "blue"),
    Line("val_macro_auroc", "mean AUROC", "orange", "dashed"),
    Line("val_f1", "F1", "green", "dotted"),
)


def task_page(evaluation: MultiLabelEvaluation, report: Report) -> TaskPage:
    """Create the page of a multi-label classifier."""
    per_class = evaluation.per_class()
    drawn = [i for i in np.argsort(per_class["ap"], kind="stable").tolist() if not np.isnan(per_class["ap"][i])]
    drawn = sorted(drawn[:DRAWN_LABELS])
    explanations = None if report.explain is None else _explanations(evaluation, drawn, report.explain)
    return TaskPage(
        template="multilabel.html.jinja",
        images=len(evaluation),
        tiles=_tiles(evaluation),
        scores=[Plot("Scores on validation images", _SCORES, in_percent=True)],
        sections=[
            ("labels", "Labels"),
            *([("rates", "Precision and recall")] if drawn else []),
            ("mistakes", "Mistakes"),
            *([("explanations", "Grad-CAM")] if explanations else []),
            ("calibration", "Calibration"),
        ],
        content=dict(
            metrics=evaluation.all_metrics(),
            classes=evaluation.class_names,
            labels=_labels(evaluation, per_class, report.train_counts),
            in_training=report.train_counts is not None,
            train_images=[(name, data_url(image, THUMBNAIL)) for name, image in report.train_images],
            drawn=[chart for i in drawn for chart in _charts(evaluation, i)],
            mistakes=_mistakes(evaluation, report.image),
            wrong=int(evaluation.wrong.any(axis=1).sum()),
            explanations=explanations,
            calibration=calibration_section(evaluation),
            fitted=evaluation.describe_fitted(report.fitted_here),
        ),
    )


def _tiles(evaluation: MultiLabelEvaluation) -> list[Tile]:
    tiles = [
        ("Mean AP", "macro_ap", "mean of the labels' average precision, at any threshold"),
        ("Mean AUROC", "macro_auroc", "mean of the labels' area under the ROC curve"),
        ("F1 (macro)", "f1", "mean F1 of the labels, at the chosen thresholds"),
        ("Exact match", "exact_match", "images with all labels correct"),
        ("Weighted exact match", "weighted_exact_match", "images weighted by label confidence"),
    ]
    metrics = evaluation.metrics()
    return [metric_tile(evaluation, name, label, [note]) for label, name, note in tiles if name in metrics]


def _labels(evaluation: MultiLabelEvaluation, per_class: Mapping[str, np.ndarray], train: Any) -> list[dict[str, Any]]:
    """Return the rows of the table of labels, most frequent first."""
    names = ("auroc", "ap", "precision", "recall", "f1", "known", "support")
    rows = [
        {
            "name": name,
            "train": None if train is None else train[i],
            "threshold": float(evaluation.thresholds[i]),
            "prevalence": float(per_class["support"][i] / max(1, per_class["known"][i])),
            **{key: per_class[key][i].item() for key in names},
        }
        for i, name in enumerate(evaluation.class_names)
    ]
    return sorted(rows, key=lambda row: (-row["support"], row["name"]))


def _charts(evaluation: MultiLabelEvaluation, label: int) -> list[Chart]:
    """Draw the precision-recall and the ROC curve of a label."""
    curves = evaluation.curves(label)
    assert curves is not None
    name, share = evaluation.class_names[label], float(curves.labels.mean())
    precision, recall, thresholds = curves.precision_recall()
    pr = rate_chart(
        "Precision-recall curve", ("recall", "precision"), recall[::-1], precision[::-1], thresholds[::-1],
        ([0, 1], [share, share]), Line("", f"always positive {percent(share)}", "muted", "dashed"), f"-{label}",
    )  # fmt: skip
    false_positives, recall, thresholds = curves.roc()
    roc = rate_chart(
        "ROC curve", ("false positive rate", "recall"), false_positives, recall, thresholds,
        ([0, 1], [0, 1]), Line("", "chance", "muted", "dashed"), f"-{label}",
    )  # fmt: skip
    return [
        replace(pr, title=f"{name}: AP {percent(curves.average_precision)}"),
        replace(roc, title=f"{name}: AUROC {percent(curves.auroc)}"),
    ]


def _mistakes(evaluation: MultiLabelEvaluation, load_image: LoadImage | None) -> list[dict[str, Any]]:
    """Create the cards of the images with a wrong label, those furthest from its threshold first."""
    distance = np.where(evaluation.wrong, np.abs(evaluation.probabilities - evaluation.thresholds), 0)
    order = np.argsort(-distance.max(axis=1), kind="stable")[:MISTAKES]
    return [
        {
            "name": evaluation.names[i],
            "thumbnail": thumbnail(load_image, i),
            "labels": [
                (
                    "missed" if evaluation.labels[i, label] == 1 else "false",
                    evaluation.class_names[label],
                    float(evaluation.probabilities[i, label]),
                )
                for label in np.argsort(-distance[i], kind="stable").tolist()
                if evaluation.wrong[i, label]
            ],
        }
        for i in order.tolist()
        if evaluation.wrong[i].any()
    ]


def _explanations(evaluation: MultiLabelEvaluation, labels: list[int], explain: Explain) -> dict[str, Any]:
    """Explain the most probable image with each label and, if predicted, the most probable one without it."""
    groups = []
    for label in labels:
        examples: list[Example] = []
        for positive in (1, 0):
            own = np.flatnonzero(evaluation.labels[:, label] == positive)
            if not len(own):
                continue
            i = int(own[evaluation.probabilities[own, label].argmax()])
            predicted = bool(evaluation.predictions[i, label])
            if positive or predicted:
                kind = ("Correct" if predicted else "Missed") if positive else "Wrong"
                note = f"{kind}: {percent(float(evaluation.probabilities[i, label]))}"
                examples.append((i, evaluation.names[i], note))
        groups.append((evaluation.class_names[label], examples, label))
    return explain_groups(groups, explain)
