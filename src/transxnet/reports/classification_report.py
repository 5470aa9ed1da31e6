"""What is particular to the report of a classifier: accuracy, confusions, mistakes and calibration."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from transxnet.metrics.classification import Evaluation
from transxnet.reports.charts import Line, Plot, chart_axes, figure_svg, ink, line_style, page_look, percent_axis
from transxnet.reports.contents import Particulars, Tile
from transxnet.reports.formatting import confusion_rows, data_url, percent
from transxnet.utils.errors import UserError

MISTAKES = 12
EXPLAINED = 3  # answers of either kind, right and wrong
THUMBNAIL = 192  # px

Picture = Callable[[int], Image.Image]
Explain = Callable[[int], Sequence[tuple[str, Image.Image]]]

_SCORES = (
    Line("val_accuracy", "accuracy", "blue"),
    Line("val_balanced_accuracy", "balanced accuracy", "orange", "dashed"),
    Line("val_f1", "F1", "green", "dotted"),
)


def particulars(evaluation: Evaluation, picture: Picture | None, explain: Explain | None = None) -> Particulars:
    """The page of a classifier; ``picture`` gives held-out image i, ``explain`` what its answer rests on, if at all."""
    metrics = evaluation.metrics()
    reasons = None if explain is None else _reasons(evaluation, explain)
    return Particulars(
        template="classification.html.jinja",
        images=len(evaluation.labels),
        tiles=_tiles(evaluation, metrics),
        scores=Plot("Scores on held-out images", _SCORES, ("commonest class", metrics["majority"]), in_percent=True),
        sections=[
            ("confusion", "Confusion"),
            ("classes", "Classes"),
            ("mistakes", "Mistakes"),
            *([("reasons", "Reasons")] if reasons else []),
            ("calibration", "Calibration"),
        ],
        content=dict(
            metrics=metrics,
            confusion=confusion_rows(evaluation.confusion, evaluation.class_names),
            classes=_classes(evaluation),
            mistakes=_mistakes(evaluation, picture),
            reasons=reasons,
            wrong=int((evaluation.predictions != evaluation.labels).sum()),
            calibration=_calibration(evaluation),
        ),
    )


def _tiles(evaluation: Evaluation, metrics: Mapping[str, float]) -> list[Tile]:
    labels = evaluation.labels
    commonest = evaluation.class_names[int(np.bincount(labels).argmax())]
    low, high = _wilson(metrics["accuracy"], len(labels))
    gain = 100 * (metrics["accuracy"] - metrics["majority"])
    baseline = f"{abs(gain):.1f} points {'above' if gain >= 0 else 'below'} always answering “{commonest}”"
    notes = [f"{baseline} ({percent(metrics['majority'])})", f"95% interval {percent(low)} to {percent(high)}"]
    tiles = [Tile("Accuracy", percent(metrics["accuracy"]), notes)]
    for label, name, note in [
        ("Balanced accuracy", "balanced_accuracy", "recall, mean over classes"),
        ("F1 (macro)", "f1", "mean over classes"),
        ("Weighted accuracy", "weighted_accuracy", "each image counts as far as its label is trusted"),
        ("Top-5 accuracy", "top5_accuracy", "true class among the first five"),
    ]:
        if name in metrics:
            tiles.append(Tile(label, percent(metrics[name]), [note]))
    return tiles


def _classes(evaluation: Evaluation) -> list[tuple[str, float, float, float, int]]:
    """(name, precision, recall, f1, support) of each class, commonest first."""
    figures = evaluation.per_class()
    columns = [figures[name].tolist() for name in ("precision", "recall", "f1", "support")]
    return sorted(zip(evaluation.class_names, *columns, strict=True), key=lambda row: (-row[-1], row[0]))


def _mistakes(evaluation: Evaluation, picture: Picture | None) -> list[dict[str, Any]]:
    """What the cards show of the wrong answers given with the greatest certainty."""
    labels, answers, weights = evaluation.labels, evaluation.predictions, evaluation.weights
    return [
        {
            "name": evaluation.names[i],
            "thumbnail": _thumbnail(picture, i),
            "true": evaluation.class_names[labels[i]],
            "true_probability": float(evaluation.probabilities[i, labels[i]]),
            "said": evaluation.class_names[answers[i]],
            "said_probability": float(evaluation.probabilities[i, answers[i]]),
            "weight": 1.0 if weights is None else float(weights[i]),
        }
        for i in evaluation.worst_mistakes(MISTAKES).tolist()
    ]


def _reasons(evaluation: Evaluation, explain: Explain) -> dict[str, Any]:
    """Of the most certain right and wrong answers, what they rest on; or why that is not shown."""
    kinds = {"right": evaluation.surest_right(EXPLAINED), "wrong": evaluation.worst_mistakes(EXPLAINED)}
    try:
        cards = {kind: list(_explained(evaluation, which.tolist(), explain)) for kind, which in kinds.items()}
    except UserError as error:
        return {"right": [], "wrong": [], "columns": 1, "why_not": str(error)}
    columns = max((len(card["panels"]) for group in cards.values() for card in group), default=1)
    return {**cards, "columns": columns, "why_not": "" if any(cards.values()) else "None of the pictures can be read."}


def _explained(evaluation: Evaluation, which: Iterable[int], explain: Explain) -> Iterator[dict[str, Any]]:
    for i in which:
        try:
            panels = [(c, data_url(ImageOps.contain(p, (THUMBNAIL, THUMBNAIL)), THUMBNAIL)) for c, p in explain(i)]
        except OSError:
            continue
        answer, label = evaluation.predictions[i], evaluation.labels[i]
        said = f"{evaluation.class_names[answer]}, {percent(float(evaluation.probabilities[i, answer]))} sure"
        truth = "" if answer == label else f"; true class {evaluation.class_names[label]}"
        yield {"panels": panels, "legend": [], "note": said + truth, "name": evaluation.names[i]}


def _thumbnail(picture: Picture | None, index: int) -> str | None:
    """The picture as a data URL, or None where it can't be read."""
    try:
        return None if picture is None else data_url(picture(index), THUMBNAIL)
    except OSError:
        return None


def _calibration(evaluation: Evaluation, bins: int = 10) -> dict[str, Any]:
    """How often the classifier is right (y) when it is so sure (x), in bins of equal width; Guo et al. 2017."""
    sure = evaluation.probabilities.max(axis=1).astype(np.float64)
    right = (evaluation.predictions == evaluation.labels).astype(np.float64)
    index = np.minimum((sure * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    used = counts > 0
    confidence = np.bincount(index, sure, bins)[used] / counts[used]
    accuracy = np.bincount(index, right, bins)[used] / counts[used]
    share = counts[used] / counts.sum()
    with page_look():
        figure, axes = chart_axes(height=3.9)
        axes.plot([0, 1], [0, 1], **line_style("muted", "dashed", 1))
        axes.plot(confidence, accuracy, **line_style("blue", "solid", 1))
        axes.scatter(confidence, accuracy, 12 + 350 * share, color=ink("blue"), edgecolor=ink("paper"), zorder=3)
        axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.04), xlabel="how sure the model was", ylabel="how often it was right")
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis)
        svg = figure_svg(figure, "calibration", "How often the model was right against how sure it was")
    error = float((share * np.abs(accuracy - confidence)).sum())
    return {"svg": svg, "error": error, "sure": sure.mean()}


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % score interval of a share seen among ``count`` (Wilson 1927)."""
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z * z / count)
    return max(0.0, centre - half), min(1.0, centre + half)
