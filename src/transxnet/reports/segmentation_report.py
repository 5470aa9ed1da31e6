"""The report of a segmenter: IoU, the confusion matrix of pixels, classes and example images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.metrics.segmentation import SegmentationEvaluation
from transxnet.reports.charts import Line, Plot
from transxnet.reports.colors import palette
from transxnet.reports.drawing import background_class, draw_label_map
from transxnet.reports.formatting import EXAMPLES, PANEL, best_and_worst, confusion_rows, data_url, fit_size, percent
from transxnet.reports.metric_cells import metric_tile
from transxnet.reports.report_data import TaskPage, Tile

LEGEND_CLASSES = 10
DECODED_MAPS = 100

_SCORES = (
    Line("val_miou", "mean IoU", "blue"),
    Line("val_pixel_accuracy", "pixel accuracy", "orange", "dashed"),
)


def task_page(evaluation: SegmentationEvaluation) -> TaskPage:
    """Create the page of a segmenter."""
    per_class = evaluation.per_class()
    best, worst = best_and_worst(evaluation.image_miou, _has_several_classes(evaluation), EXAMPLES)
    return TaskPage(
        template="segmentation.html.jinja",
        images=len(evaluation.images),
        tiles=_tiles(evaluation, per_class["share"]),
        scores=[Plot("Scores on validation images", _SCORES, in_percent=True)],
        sections=[("confusion", "Confusion"), ("classes", "Classes"), ("examples", "Examples")],
        content=dict(
            confusion=confusion_rows(evaluation.confusion, evaluation.class_names),
            classes=_classes(evaluation.class_names, per_class),
            best=[_card(evaluation, i) for i in best],
            worst=[_card(evaluation, i) for i in worst],
        ),
    )


def _tiles(evaluation: SegmentationEvaluation, share: np.ndarray) -> list[Tile]:
    names = evaluation.class_names
    occurring = int((np.nan_to_num(share) > 0).sum())
    tiles = [
        metric_tile(
            evaluation,
            "miou",
            "Mean IoU",
            ["mean intersection over union of the classes", f"{occurring} of {len(names)} classes occur"],
        ),
        metric_tile(evaluation, "mean_accuracy", "Mean accuracy", ["mean recall of the classes"]),
        metric_tile(evaluation, "pixel_accuracy", "Pixel accuracy", ["fraction of correct pixels"]),
    ]
    if occurring:
        largest = int(np.argmax(share))
        note = f"pixel accuracy of always predicting “{names[largest]}”"
        tiles.append(Tile("Largest class", percent(share[largest]), [note]))
    return tiles


def _has_several_classes(evaluation: SegmentationEvaluation) -> np.ndarray:
    """Return (N,) 1 for images with several predicted classes, which are the interesting examples; else 0.

    Decodes only the maps of the best images; the others get 0.
    """
    order = np.argsort(-np.nan_to_num(evaluation.image_miou), kind="stable")
    several = np.zeros(len(order), np.int64)
    for i in order[:DECODED_MAPS].tolist():
        predicted = evaluation.predicted(i)
        several[i] = (predicted != predicted[0, 0]).any()
    return several


def _classes(names: list[str], per_class: Mapping[str, np.ndarray]) -> list[tuple[str, float, float, float, float]]:
    """Return (name, IoU, accuracy, precision, share) of each class, largest first."""
    columns = [per_class[name].tolist() for name in ("iou", "accuracy", "precision", "share")]
    return sorted(zip(names, *columns, strict=True), key=lambda row: (-np.nan_to_num(row[-1]), row[0]))


def _card(evaluation: SegmentationEvaluation, index: int) -> dict[str, Any]:
    """Show an image with its true and predicted label maps side by side, and the class colors."""
    names = evaluation.class_names
    predicted = evaluation.predicted(index)
    legend: list[tuple[str, str]] = []
    panels: list[tuple[str, str | None]]
    try:
        image, labels = evaluation.images.image(index), evaluation.images.labels(index)
    except UnreadableImage:
        panels = [("image", None), ("ground truth", None), ("prediction", None)]
    else:
        shown = image.resize(fit_size(image.size))
        panels = [("image", data_url(shown, PANEL))]
        untinted = background_class(labels, names)
        for caption, values in (("ground truth", labels), ("prediction", predicted)):
            resized = np.asarray(Image.fromarray(values).resize(shown.size, Image.Resampling.NEAREST))
            drawn = draw_label_map(shown, resized, names, untinted=untinted, legend=False)
            panels.append((caption, data_url(drawn, PANEL)))
        legend = _legend(labels, predicted, names, untinted)
    note = f"mean IoU {percent(evaluation.image_miou[index])}"
    return {"name": evaluation.images.name(index), "note": note, "panels": panels, "legend": legend}


def _legend(labels: np.ndarray, predicted: np.ndarray, names: list[str], untinted: int | None) -> list[tuple[str, str]]:
    """Return (color, name) of the classes in either map, largest first; the last row counts the omitted ones."""
    counts = np.bincount(np.concatenate([labels.ravel(), predicted.ravel()]), minlength=IGNORE + 1)[:IGNORE]
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    colors = palette(len(names))
    legend = ["#{:02x}{:02x}{:02x}".format(*colors[i]) for i in order[:LEGEND_CLASSES]]
    rows = [
        ("transparent", f"{names[i]} (not tinted)") if i == untinted else (color, names[i])
        for color, i in zip(legend, order, strict=False)
    ]
    more = len(order) - len(rows)
    return [*rows, ("transparent", f"and {more} more")] if more else rows
