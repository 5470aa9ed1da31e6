"""The report of a detector: average precision, precision over recall, classes and example images."""

import math
from typing import Any

import numpy as np
from PIL import Image

from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.data.reading.masks import encode_mask
from transxnet.metrics.detection import MIN_SCORE, DetectionEvaluation, Detections
from transxnet.reports.charts import Chart, Line, Plot, chart_axes, chart_style, figure_svg, line_style, percent_axis
from transxnet.reports.drawing import draw_detections, resize_detections
from transxnet.reports.formatting import EXAMPLES, PANEL, best_and_worst, data_url, fit_size, percent
from transxnet.reports.metric_cells import metric_tile
from transxnet.reports.report_data import TaskPage, Tile
from transxnet.utils.quantities import format_count

THIN_LINES = 12  # classes; with more, only the best and the worst are drawn in addition to the mean
EXTREMES = 3
TEXT = 24  # px on a panel, which is shown at half its size or less

_SCORES = (
    Line("val_ap", "AP", "blue"),
    Line("val_ap50", "AP50", "orange", "dashed"),
    Line("val_mask_ap", "mask AP", "green", "dotted"),
)


def task_page(evaluation: DetectionEvaluation) -> TaskPage:
    """Create the page of a detector of boxes, or of boxes and masks."""
    objects = np.array([len(labels) for labels in evaluation.images.own_labels], dtype=np.int64)
    best, worst = best_and_worst(evaluation.image_f1, objects, EXAMPLES)
    return TaskPage(
        template="detection.html.jinja",
        images=len(evaluation.images),
        tiles=_tiles(evaluation),
        scores=[Plot("Scores on validation images", _SCORES, in_percent=True)],
        sections=[("precision", "Precision and recall"), ("classes", "Classes"), ("examples", "Examples")],
        content=dict(
            objects=int(objects.sum()),
            masks="mask" in evaluation.class_ap,
            precision=[_precision_chart(kind, evaluation) for kind in evaluation.precision if evaluation.objects.any()],
            classes=_classes(evaluation),
            min_score=MIN_SCORE,
            best=[_card(evaluation, i) for i in best],
            worst=[_card(evaluation, i) for i in worst],
        ),
    )


def _tiles(evaluation: DetectionEvaluation) -> list[Tile]:
    metrics = evaluation.all_metrics
    sizes = [
        f"{size} {percent(metrics[name])}".replace(" ", "\u00a0")
        for size, name in [
            ("objects under 32² pixels", "ap_small"),
            ("up to 96²", "ap_medium"),
            ("over 96²", "ap_large"),
        ]
        if not math.isnan(metrics[name])
    ]
    notes = ["COCO box AP: mean over classes and IoU 0.50 to 0.95"]
    tiles = [metric_tile(evaluation, "ap", "AP", [*notes, ", ".join(sizes)] if sizes else notes)]
    if "mask_ap" in metrics:
        notes = [f"AP50 {percent(metrics['mask_ap50'])}", f"AP75 {percent(metrics['mask_ap75'])}"]
        tiles.append(metric_tile(evaluation, "mask_ap", "Mask AP", notes))
    tiles.append(metric_tile(evaluation, "ap50", "AP50", ["of boxes, at IoU 0.50"]))
    tiles.append(metric_tile(evaluation, "ap75", "AP75", ["of boxes, at IoU 0.75"]))
    return tiles


def _classes(evaluation: DetectionEvaluation) -> list[tuple[str, float, float, int]]:
    """Return (name, AP, mask AP or NaN, objects) of each class, most frequent first."""
    box_ap = evaluation.class_ap["box"]
    mask_ap = evaluation.class_ap.get("mask", np.full(len(box_ap), np.nan))
    rows = zip(evaluation.class_names, box_ap.tolist(), mask_ap.tolist(), evaluation.objects.tolist(), strict=True)
    return sorted(rows, key=lambda row: (-row[-1], row[0]))


def _precision_chart(kind: str, evaluation: DetectionEvaluation) -> Chart:
    """Plot precision over recall at IoU 0.5: the mean over the classes, and single classes as thin lines."""
    precision, recall = evaluation.precision[kind], np.linspace(0, 1, 101)
    known = np.flatnonzero(~np.isnan(precision).all(axis=1))
    order = known[np.argsort(-precision[known].mean(axis=1), kind="stable")].tolist()
    few = len(order) <= THIN_LINES
    extremes = min(1 if few else EXTREMES, len(order) // 2)
    best, worst = order[:extremes], order[len(order) - extremes :]
    with chart_style():
        figure, axes = chart_axes(height=3.6)
        for i in order if few else [*best, *worst]:
            color = "green" if i in best else "orange" if i in worst else "muted"
            dash = "dashed" if i in worst else "solid"
            axes.plot(recall, precision[i], zorder=2, **line_style(color, dash, 0.6 if color == "muted" else 1.1))
        axes.plot(recall, precision[known].mean(axis=0), zorder=3, **line_style("blue", "solid", 2.2))
        axes.set(xlim=(0, 1), ylim=(0, 1.04), xlabel="recall", ylabel="precision")
        for axis in (axes.xaxis, axes.yaxis):
            percent_axis(axis)
        title = "Boxes" if kind == "box" else "Masks"
        svg = figure_svg(figure, f"precision-{kind}", f"Precision over recall, {title.lower()}")
    names = evaluation.class_names
    keys = [Line("", "mean over classes", "blue")]
    if extremes:
        keys.append(Line("", f"best: {', '.join(names[i] for i in best)}", "green"))
        keys.append(Line("", f"worst: {', '.join(names[i] for i in reversed(worst))}", "orange", "dashed"))
    if few and len(order) > max(1, 2 * extremes):
        keys.append(Line("", "other classes", "muted"))
    return Chart(title, svg, tuple(keys))


def _card(evaluation: DetectionEvaluation, index: int) -> dict[str, Any]:
    """Show the annotations and detections of an image side by side."""
    found = evaluation.detections[index].filter()
    masks = found.masks is not None and evaluation.images.has_masks
    target = evaluation.images.target(index, masks=masks, crowds=False)
    boxes, labels = target["boxes"].numpy(), target["labels"].numpy()
    counts = f"{format_count(len(labels), 'object')}, {format_count(len(found.labels), 'detection')}"
    note = f"F1 {percent(evaluation.image_f1[index])}: {counts}"
    panels: list[tuple[str, str | None]]
    try:
        image = evaluation.images.image(index)
    except UnreadableImage:
        panels = [("ground truth", None), ("detections", None)]
    else:
        no_scores = np.full(len(labels), np.nan, np.float32)
        true_masks = [encode_mask(mask) for mask in target["masks"].numpy()] if masks else None
        shown = {"ground truth": Detections(boxes, labels, no_scores, true_masks), "detections": found}
        panels = [(name, _panel(image, objects, evaluation.class_names)) for name, objects in shown.items()]
    return {"name": evaluation.images.name(index), "note": note, "panels": panels, "legend": []}


def _panel(image: Image.Image, detections: Detections, class_names: list[str]) -> str:
    """Draw the detections on the image at the panel's size, so that the labels are legible."""
    resized, shown = resize_detections(image, detections, fit_size(image.size))
    return data_url(draw_detections(resized, shown, class_names, text_size=TEXT), PANEL)
