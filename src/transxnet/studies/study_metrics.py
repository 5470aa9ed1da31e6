"""The metrics of a study by its task: their names, and the one that ranks the arms."""

from collections.abc import Sequence

from transxnet.metrics.publication_metrics import BINARY_ONLY, PUBLICATION_METRICS
from transxnet.metrics.scored_detections import DETECTION_METRICS
from transxnet.metrics.scored_maps import SEGMENTATION_METRICS
from transxnet.utils.errors import check_one_of

_TITLES = PUBLICATION_METRICS | DETECTION_METRICS | SEGMENTATION_METRICS
_OF_A_CLASS = {"iou_": "IoU", "dice_": "Dice", "class_ap_": "AP", "mask_class_ap_": "Mask AP"}

SHOWN = {
    "classify": ("accuracy", "balanced_accuracy", "auroc"),
    "detect": ("ap", "ap50", "ap75"),
    "segment": ("miou", "mean_dice", "pixel_accuracy"),
}
"""Metrics on a terminal in addition to the one that ranks the arms, by the tasks that a study supports."""


def metric_title(name: str) -> str:
    """Return the display name of a metric; of a single class, with its name."""
    if name in _TITLES:
        return _TITLES[name]
    prefix = next(prefix for prefix in _OF_A_CLASS if name.startswith(prefix))
    return f"{_OF_A_CLASS[prefix]}, {name.removeprefix(prefix)}"


def ranking_metric(metric: str | None, task: str, class_names: Sequence[str], *, masks: bool = False) -> str:
    """Return the metric that ranks arms: the given one, or AUROC of two classes, accuracy, AP of boxes, or mean IoU.

    Args:
        metric: name of the metric, or None.
        task: task of the study.
        class_names: names of the classes.
        masks: whether all arms of detectors predict masks.

    Raises:
        UserError: there is no such metric for this task and these classes.
    """
    if task == "segment":
        of_classes = [f"{prefix}{name}" for prefix in ("iou_", "dice_") for name in class_names]
        accepted, default = [*SEGMENTATION_METRICS, *of_classes], "miou"
    elif task == "detect":
        of_classes = [f"{prefix}{name}" for prefix in ("class_ap_", "mask_class_ap_") for name in class_names]
        accepted = [name for name in [*DETECTION_METRICS, *of_classes] if masks or not name.startswith("mask_")]
        default = "ap"
    else:
        binary = len(class_names) == 2
        accepted = [name for name in PUBLICATION_METRICS if binary or name not in BINARY_ONLY]
        default = "auroc" if binary else "accuracy"
    metric = metric or default
    check_one_of(accepted, metric=metric)
    return metric
