"""What is particular to the report of a detector: average precision, by class and over recall, and pictures."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.data.reading.masks import decode_mask, encode_mask
from transxnet.metrics.detection import SURE, DetectionEvaluation, Found
from transxnet.reports.charts import Chart, Line, Plot, chart_axes, figure_svg, line_style, page_look, percent_axis
from transxnet.reports.contents import Particulars, Tile
from transxnet.reports.drawing import draw_detections
from transxnet.reports.formatting import EXAMPLES, PANEL, best_and_worst, data_url, fit_size, percent

THIN_LINES = 12  # classes; with more, only the extremes are drawn beside the mean
EXTREMES = 3
TEXT = 24  # px on a panel, which is shown at half its size or less

_SCORES = (
    Line("val_ap", "AP", "blue"),
    Line("val_ap50", "AP50", "orange", "dashed"),
    Line("val_mask_ap", "mask AP", "green", "dotted"),
)


def particulars(evaluation: DetectionEvaluation) -> Particulars:
    """The page of a detector of boxes or of boxes and masks."""
    quality = evaluation.quality
    objects = np.array([len(labels) for labels in evaluation.images.own_labels], dtype=np.int64)
    best, worst = best_and_worst(quality, objects, EXAMPLES)
    return Particulars(
        template="detection.html.jinja",
        images=len(evaluation.images),
        tiles=_tiles(evaluation),
        scores=Plot("Scores on held-out images", _SCORES, in_percent=True),
        sections=[("precision", "Precision and recall"), ("classes", "Classes"), ("pictures", "Pictures")],
        content=dict(
            objects=int(objects.sum()),
            masks="mask" in evaluation.class_ap,
            precision=[_precision_chart(kind, evaluation) for kind in evaluation.precision if evaluation.objects.any()],
            classes=_classes(evaluation),
            sure=SURE,
            best=[_card(evaluation, i) for i in best],
            worst=[_card(evaluation, i) for i in worst],
        ),
    )


def _tiles(evaluation: DetectionEvaluation) -> list[Tile]:
    figures = evaluation.figures
    sizes = [
        f"{size} {percent(figures[name])}".replace(" ", "\u00a0")
        for size, name in [
            ("objects below 32² pixels", "ap_small"),
            ("up to 96²", "ap_medium"),
            ("larger ones", "ap_large"),
        ]
        if not math.isnan(figures[name])
    ]
    notes = ["COCO's, of boxes: mean over classes and over IoU 0.50 to 0.95"]
    tiles = [Tile("AP", percent(figures["ap"]), [*notes, ", ".join(sizes)] if sizes else notes)]
    if "mask_ap" in figures:
        notes = [f"AP50 {percent(figures['mask_ap50'])}", f"AP75 {percent(figures['mask_ap75'])}"]
        tiles.append(Tile("Mask AP", percent(figures["mask_ap"]), notes))
    tiles.append(Tile("AP50", percent(figures["ap50"]), ["of boxes, at IoU 0.50"]))
    tiles.append(Tile("AP75", percent(figures["ap75"]), ["of boxes, at IoU 0.75"]))
    return tiles


def _classes(evaluation: DetectionEvaluation) -> list[tuple[str, float, float, int]]:
    """(name, AP, mask AP or NaN, objects) of each class, commonest first."""
    box_ap = evaluation.class_ap["box"]
    mask_ap = evaluation.class_ap.get("mask", np.full(len(box_ap), np.nan))
    rows = zip(evaluation.class_names, box_ap.tolist(), mask_ap.tolist(), evaluation.objects.tolist(), strict=True)
    return sorted(rows, key=lambda row: (-row[-1], row[0]))


def _precision_chart(kind: str, evaluation: DetectionEvaluation) -> Chart:
    """Precision over recall at IoU 0.5: the mean over the classes, and single classes as thin lines."""
    precision, recall = evaluation.precision[kind], np.linspace(0, 1, 101)
    known = np.flatnonzero(~np.isnan(precision).all(axis=1))
    order = known[np.argsort(-precision[known].mean(axis=1), kind="stable")].tolist()
    few = len(order) <= THIN_LINES
    extremes = min(1 if few else EXTREMES, len(order) // 2)
    best, worst = order[:extremes], order[len(order) - extremes :]
    with page_look():
        figure, axes = chart_axes(height=3.6)
        for i in order if few else [*best, *worst]:
            colour = "green" if i in best else "orange" if i in worst else "muted"
            dash = "dashed" if i in worst else "solid"
            axes.plot(recall, precision[i], zorder=2, **line_style(colour, dash, 0.6 if colour == "muted" else 1.1))
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
    if few and len(order) > 2 * extremes:
        keys.append(Line("", "other classes", "muted"))
    return Chart(title, svg, tuple(keys))


def _card(evaluation: DetectionEvaluation, index: int) -> dict[str, Any]:
    """One image's truth and what was found in it, side by side."""
    found = evaluation.found[index].sure()
    masks = found.masks is not None and evaluation.images.has_masks
    target = evaluation.images.target(index, masks=masks, crowds=False)
    boxes, labels = target["boxes"].numpy(), target["labels"].numpy()
    count, answers = len(labels), len(found.labels)
    note = f"F1 {percent(evaluation.quality[index])}: {count} object{'' if count == 1 else 's'}, {answers} found"
    panels: list[tuple[str, str | None]]
    try:
        picture = evaluation.images.image(index)
    except UnreadableImage:
        panels = [("truth", None), ("found", None)]
    else:
        no_scores = np.full(count, np.nan, np.float32)
        true_masks = target["masks"].numpy() if masks else None
        found_masks = (
            None if found.masks is None else (decode_mask(mask, picture.height, picture.width) for mask in found.masks)
        )
        names = evaluation.class_names
        panels = [
            ("truth", _panel(picture, boxes, labels, no_scores, true_masks, names)),
            ("found", _panel(picture, found.boxes, found.labels, found.scores, found_masks, names)),
        ]
    return {"name": evaluation.images.name(index), "note": note, "panels": panels, "legend": []}


def _panel(
    picture: Image.Image,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    masks: Iterable[np.ndarray] | None,
    class_names: list[str],
) -> str:
    """The picture at a panel's size, and only then drawn upon: the labels must be legible there."""
    size = fit_size(picture.size)
    scale = np.array(size * 2) / np.array(picture.size * 2)
    runs = None
    if masks is not None:
        resized = (Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST) for mask in masks)
        runs = [encode_mask(np.asarray(mask)) for mask in resized]
    shown = Found((boxes * scale).astype(np.float32), labels, scores, runs)
    return data_url(draw_detections(picture.resize(size), shown, class_names, text_size=TEXT), PANEL)
