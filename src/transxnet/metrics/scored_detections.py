"""The metrics of a study of detectors: COCO's average precision from the matches of each image."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.reading.masks import encode_mask
from transxnet.utils.optional_packages import require_package

COCO_IOUS, COCO_RECALLS = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
"""COCO's thresholds in float64: torchmetrics rounds its own to float32, which misses a recall of 0.1."""

COCO_METRICS: dict[str, tuple[Any, int]] = {
    "ap": (slice(None), 0),
    "ap50": (slice(0, 1), 0),
    "ap75": (slice(5, 6), 0),
    "ap_small": (slice(None), 1),
    "ap_medium": (slice(None), 2),
    "ap_large": (slice(None), 3),
}
"""IoU thresholds and area range that each COCO metric averages over."""

DETECTION_METRICS = {
    f"{prefix}{name}": f"{title}{text}"
    for prefix, title in {"": "", "mask_": "Mask "}.items()
    for name, text in {
        "ap": "AP",
        "ap50": "AP50",
        "ap75": "AP75",
        "ap_small": "AP, small objects",
        "ap_medium": "AP, medium objects",
        "ap_large": "AP, large objects",
    }.items()
}
"""Display name of each metric over all classes; ``class_ap_CLASS`` and ``mask_class_ap_CLASS`` are those of a class."""

_KINDS = {"box": ("", "bbox"), "mask": ("mask_", "segm")}
"""Prefix of the metrics, and COCO's name, of what is compared with the objects."""

_AREAS = 4


@dataclass(frozen=True)
class ScoredDetections:
    """The detections in N images with objects of K classes, matched with the objects.

    Attributes:
        class_names: K names.
        matches: (N, K, 4) matches of each image, class and area range, by faster-coco-eval; under "box" and, for masks,
            "mask".
    """

    class_names: tuple[str, ...]
    matches: dict[str, np.ndarray]

    @property
    def compared(self) -> tuple[str, ...]:
        """Metrics that are compared in addition to the one that ranks the arms."""
        return tuple(f"{_KINDS[kind][0]}ap" for kind in self.matches)

    def __len__(self) -> int:
        return len(self.matches["box"])

    def take(self, indices: np.ndarray) -> "ScoredDetections":
        """Return the images at these indices, which may repeat."""
        return ScoredDetections(self.class_names, {kind: found[indices] for kind, found in self.matches.items()})

    @classmethod
    def concatenate(cls, parts: Sequence["ScoredDetections"]) -> "ScoredDetections":
        """Return the images of all parts, one part after the other."""
        kinds = parts[0].matches
        return cls(
            parts[0].class_names, {kind: np.concatenate([part.matches[kind] for part in parts]) for kind in kinds}
        )

    def metrics(self) -> dict[str, float]:
        """Compute COCO's metrics of all images together, and the AP of each class; NaN without objects."""
        values: dict[str, float] = {}
        for kind, found in self.matches.items():
            prefix = _KINDS[kind][0]
            precision = accumulate(kind, found)
            values |= average_precisions(precision, kind)
            values |= {
                f"{prefix}class_ap_{name}": mean_precision(precision[:, :, number, 0])
                for number, name in enumerate(self.class_names)
            }
        return values

    @property
    def image_scores(self) -> np.ndarray:
        """(N,) AP in each image; NaN without objects."""
        return np.array([self.take(np.array([i])).metrics()["ap"] for i in range(len(self))])


def match_detections(
    images: DetectionSet, results: Sequence[Sequence[dict[str, Any]]], *, masks: bool
) -> ScoredDetections:
    """Match detections with the objects of the images, for each IoU threshold, class and area range of COCO.

    Args:
        images: N images with their objects.
        results: the detections in each image: ``bbox`` [x, y, width, height], ``score``, ``label`` from 1, and for
            masks ``segmentation``.
        masks: also match masks.

    Raises:
        UserError: faster-coco-eval is not installed.
    """
    require_package("faster_coco_eval", "transxnet[detect]", "Average precision")
    from faster_coco_eval import COCO

    truth = COCO(_as_coco(images, masks))
    found = [
        {
            **{name: value for name, value in each.items() if name != "label"},
            "image_id": i,
            "category_id": each["label"],
        }
        for i, own in enumerate(results, 1)
        for each in own
    ]
    detected = truth.loadRes(found) if found else COCO({**truth.dataset, "annotations": []})
    matches = {}
    for kind in ("box", "mask") if masks else ("box",):
        evaluator = _evaluator(kind, truth, detected)
        evaluator.evaluate()
        by_class = np.empty(len(images.class_names) * _AREAS * len(images), object)
        by_class[:] = evaluator._evalImgs_cpp
        matches[kind] = by_class.reshape(len(images.class_names), _AREAS, len(images)).transpose(2, 0, 1)
    return ScoredDetections(tuple(images.class_names), matches)


def _as_coco(images: DetectionSet, masks: bool) -> dict[str, Any]:
    """Return the images, numbered from 1, with their objects in COCO's format."""
    annotations: list[dict[str, Any]] = []
    for i in range(len(images)):
        target = images.target(i, masks=masks)
        for n, (x1, y1, x2, y2) in enumerate(target["boxes"].tolist()):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": int(target["labels"][n]),
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": float(target["area"][n]),
                    "iscrowd": int(target["iscrowd"][n]),
                    **({"segmentation": encode_mask(target["masks"][n].numpy())} if masks else {}),
                }
            )
    return {
        "images": [{"id": i, "height": int(h), "width": int(w)} for i, (h, w) in enumerate(images.own_sizes, 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(images.class_names, 1)],
    }


def _evaluator(kind: str, truth: Any = None, detected: Any = None) -> Any:
    """Return faster-coco-eval's evaluation of boxes or masks, with COCO's thresholds in float64."""
    from faster_coco_eval import COCOeval_faster

    evaluator = COCOeval_faster(truth, detected, _KINDS[kind][1], print_function=lambda *_: None, separate_eval=True)
    evaluator.params.iouThrs, evaluator.params.recThrs, evaluator.params.maxDets = COCO_IOUS, COCO_RECALLS, [100]
    return evaluator


def accumulate(kind: str, matches: np.ndarray) -> np.ndarray:
    """Return the precision (10, 101, K, A) by IoU, recall, class and area; -1 where there is no object.

    Matches of images do not depend on each other, so those of drawn images are accumulated without matching again.
    faster-coco-eval has no public argument for them; they replace those of its own evaluation.
    """
    evaluator = _evaluator(kind)
    evaluator.params.imgIds = list(range(len(matches)))
    evaluator.params.catIds = list(range(matches.shape[1]))
    evaluator.params.areaRng = evaluator.params.areaRng[: matches.shape[2]]
    evaluator._paramsEval, evaluator._evalImgs_cpp = evaluator.params, matches.transpose(1, 2, 0).ravel().tolist()
    evaluator.accumulate()
    return evaluator.eval["precision"][..., -1]


def average_precisions(
    precision: np.ndarray, kind: str, names: Iterable[str] = tuple(COCO_METRICS)
) -> dict[str, float]:
    """Return the metrics with these names in ``COCO_METRICS`` of boxes or masks.

    Args:
        precision: (10, 101, K, A) precision by IoU, recall, class and area range; -1 where there is no object.
        kind: "box" or "mask".
        names: names of the metrics.
    """
    chosen = {name: COCO_METRICS[name] for name in names}
    return {
        f"{_KINDS[kind][0]}{name}": mean_precision(precision[ious, ..., area]) for name, (ious, area) in chosen.items()
    }


def mean_precision(precision: np.ndarray) -> float:
    """Return the mean of the known entries; NaN if all are unknown."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else math.nan
