"""The report of a classifier: accuracy, confusion matrix, mistakes, explanations and calibration."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from transxnet.metrics.classification import Calibration, ClassificationEvaluation
from transxnet.reports.charts import (
    Line,
    Plot,
    chart_axes,
    chart_style,
    css_color,
    figure_svg,
    line_style,
    percent_axis,
)
from transxnet.reports.formatting import confusion_rows, data_url, percent
from transxnet.reports.report_data import TaskPage, Tile
from transxnet.utils.errors import UserError

MISTAKES = 12
EXPLAINED = 3  # correct predictions, and as many wrong ones
THUMBNAIL = 192  # px

LoadImage = Callable[[int], Image.Image]
Explain = Callable[[int], Sequence[tuple[str, Image.Image]]]

_SCORES = (
    Line("val_accuracy", "accuracy", "blue"),
    Line("val_balanced_accuracy", "balanced accuracy", "orange", "dashed"),
    Line("val_f1", "F1", "green", "dotted"),
)


def task_page(
    evaluation: ClassificationEvaluation, load_image: LoadImage | None, explain: Explain | None = None
) -> TaskPage:
    """Create the page of a classifier; for ``load_image`` and ``explain`` see ``Report``."""
    metrics = evaluation.metrics()
    explanations = None if explain is None else _explanations(evaluation, explain)
    return TaskPage(
        template="classification.html.jinja",
        images=len(evaluation.labels),
        tiles=_tiles(evaluation, metrics),
        scores=Plot(
            "Scores on validation images", _SCORES, ("most frequent class", metrics["majority"]), in_percent=True
        ),
        sections=[
            ("confusion", "Confusion"),
            ("classes", "Classes"),
            ("mistakes", "Mistakes"),
            *([("explanations", "Explanations")] if explanations else []),
            ("calibration", "Calibration"),
        ],
        content=dict(
            metrics=metrics,
            confusion=confusion_rows(evaluation.confusion, evaluation.class_names),
            classes=_classes(evaluation),
            mistakes=_mistakes(evaluation, load_image),
            explanations=explanations,
            wrong=int((~evaluation.correct).sum()),
            calibration=_calibration(evaluation.calibration(), evaluation),
        ),
    )


def _tiles(evaluation: ClassificationEvaluation, metrics: Mapping[str, float]) -> list[Tile]:
    labels = evaluation.labels
    most_frequent = evaluation.class_names[int(np.bincount(labels).argmax())]
    low, high = evaluation.accuracy_interval()
    gain = 100 * (metrics["accuracy"] - metrics["majority"])
    baseline = f"{abs(gain):.1f} points {'above' if gain >= 0 else 'below'} always predicting “{most_frequent}”"
    notes = [f"{baseline} ({percent(metrics['majority'])})", f"95% interval {percent(low)} to {percent(high)}"]
    tiles = [Tile("Accuracy", percent(metrics["accuracy"]), notes)]
    for label, name, note in [
        ("Balanced accuracy", "balanced_accuracy", "mean recall of the classes"),
        ("F1 (macro)", "f1", "mean F1 of the classes"),
        ("Weighted accuracy", "weighted_accuracy", "images weighted by label confidence"),
        ("Top-5 accuracy", "top5_accuracy", "true class in the top 5"),
    ]:
        if name in metrics:
            tiles.append(Tile(label, percent(metrics[name]), [note]))
    return tiles


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
            "thumbnail": _thumbnail(load_image, i),
            "true": evaluation.class_names[labels[i]],
            "true_probability": float(evaluation.probabilities[i, labels[i]]),
            "predicted": evaluation.class_names[predictions[i]],
            "predicted_probability": float(evaluation.probabilities[i, predictions[i]]),
            "weight": 1.0 if weights is None else float(weights[i]),
        }
        for i in evaluation.most_confident(MISTAKES, correct=False).tolist()
    ]


def _explanations(evaluation: ClassificationEvaluation, explain: Explain) -> dict[str, Any]:
    """Explain the correct and wrong predictions with the highest confidence, or give the reason if that fails."""
    kinds = {"correct": True, "wrong": False}
    try:
        cards = {
            kind: list(_explanation_cards(evaluation, evaluation.most_confident(EXPLAINED, correct).tolist(), explain))
            for kind, correct in kinds.items()
        }
    except UserError as error:
        return {"correct": [], "wrong": [], "columns": 1, "missing": str(error)}
    columns = max((len(card["panels"]) for group in cards.values() for card in group), default=1)
    return {**cards, "columns": columns, "missing": "" if any(cards.values()) else "None of the images can be read."}


def _explanation_cards(
    evaluation: ClassificationEvaluation, indices: Iterable[int], explain: Explain
) -> Iterator[dict[str, Any]]:
    for i in indices:
        try:
            panels = [(c, data_url(ImageOps.contain(p, (THUMBNAIL, THUMBNAIL)), THUMBNAIL)) for c, p in explain(i)]
        except OSError:
            continue
        predicted, label = evaluation.predictions[i], evaluation.labels[i]
        note = f"{evaluation.class_names[predicted]}, {percent(float(evaluation.probabilities[i, predicted]))}"
        true = "" if predicted == label else f"; true class {evaluation.class_names[label]}"
        yield {"panels": panels, "legend": [], "note": note + true, "name": evaluation.names[i]}


def _thumbnail(load_image: LoadImage | None, index: int) -> str | None:
    """Return the image as a data URL; None if it cannot be read."""
    try:
        return None if load_image is None else data_url(load_image(index), THUMBNAIL)
    except OSError:
        return None


def _calibration(calibration: Calibration, evaluation: ClassificationEvaluation) -> dict[str, Any]:
    """Draw the reliability diagram: accuracy (y) by confidence (x)."""
    confidence, accuracy = calibration.confidence, calibration.accuracy
    sizes = 12 + 350 * calibration.share
    with chart_style():
        figure, axes = chart_axes(height=3.9)
        axes.plot([0, 1], [0, 1], **line_style("muted", "dashed", 1))
        axes.plot(confidence, accuracy, **line_style("blue", "solid", 1))
        axes.scatter(confidence, accuracy, sizes, color=css_color("blue"), edgecolor=css_color("paper"), zorder=3)
        axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.04), xlabel="confidence", ylabel="accuracy")
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis)
        svg = figure_svg(figure, "calibration", "Accuracy by confidence")
    mean = evaluation.confidence.astype(np.float64).mean()
    return {"svg": svg, "error": calibration.error, "confidence": mean}
