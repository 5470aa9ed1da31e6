"""Detection metrics: COCO's average precision, and the F1 of each image."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_iou

from transxnet.data.datasets.detection_dataset import DetectionSet, Target
from transxnet.data.reading.masks import decode_mask, encode_mask
from transxnet.metrics.intervals import Resampled
from transxnet.metrics.scored_detections import (
    COCO_IOUS,
    COCO_RECALLS,
    accumulate,
    average_precisions,
    match_detections,
    mean_precision,
)
from transxnet.utils.optional_packages import require_package

MIN_SCORE = 0.5
"""Detections below this score are not drawn and do not count for :func:`compute_image_f1`."""

MAX_PAIRS = 20_000
"""Most pairs of image and class with intervals of AP: accumulating them takes 0.07 s for each resample."""


@dataclass(frozen=True)
class Detections:
    """The detections in one image, highest score first.

    Attributes:
        boxes: (D, 4) float32, x1, y1, x2, y2 in pixels of the image.
        labels: (D,) int64, 1 to K.
        scores: (D,) float32, 0 to 1.
        masks: D masks in COCO's run-length encoding; None for a box detector.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: list[dict[str, Any]] | None = None

    @classmethod
    def from_output(cls, output: dict[str, Tensor]) -> "Detections":
        """Create from a detector's output for one image."""
        boxes, labels, scores = (output[name].cpu().numpy() for name in ("boxes", "labels", "scores"))
        masks = [encode_mask(mask.cpu().numpy()) for mask in output["masks"]] if "masks" in output else None
        return cls(boxes, labels, scores, masks)

    def to_output(self, height: int, width: int) -> dict[str, Tensor]:
        """Return the detections in an image of this size as a detector does, with masks (D, H, W) bool."""
        tensors = {name: torch.from_numpy(getattr(self, name)) for name in ("boxes", "labels", "scores")}
        masks = self.decode_masks(height, width)
        return tensors if masks is None else tensors | {"masks": torch.from_numpy(masks)}

    def decode_masks(self, height: int, width: int) -> np.ndarray | None:
        """Return the masks (D, H, W) bool in an image of this size; None for a box detector."""
        if self.masks is None:
            return None
        decoded = np.zeros((len(self.masks), height, width), bool)
        for mask, encoded in zip(decoded, self.masks, strict=True):
            mask[:] = decode_mask(encoded, height, width)
        return decoded

    def results(self) -> Iterator[dict[str, Any]]:
        """Iterate over the detections: ``bbox`` [x, y, width, height], ``score``, ``label`` and ``segmentation``."""
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            result = {"bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(self.scores[i]), "label": int(self.labels[i])}
            yield result if self.masks is None else result | {"segmentation": self.masks[i]}

    def filter(self, min_score: float = MIN_SCORE) -> "Detections":
        """Return the detections with at least this score."""
        kept = np.flatnonzero(self.scores >= min_score)
        masks = None if self.masks is None else [self.masks[i] for i in kept]
        return Detections(self.boxes[kept], self.labels[kept], self.scores[kept], masks)


@dataclass(frozen=True)
class DetectionEvaluation(Resampled):
    """A detector's results on N images with objects of K classes.

    Attributes:
        images: the images with their annotations.
        detections: of each image, in the order of ``images``.
        all_metrics: by name, 0 to 1, NaN where no object counts: COCO's box metrics ``ap``, ``ap50``, ``ap75``,
            ``ap_small``, ``ap_medium``, ``ap_large``, and the mask metrics of the same names with the prefix ``mask_``.
        class_ap: (K,) AP of each class under "box" and, for masks, "mask"; NaN for classes without objects.
        precision: (K, 101) precision at IoU 0.5 at the recalls 0, 0.01 ... 1, under the same keys; NaN likewise.
        image_f1: (N,) :func:`compute_image_f1` of each image.
    """

    images: DetectionSet
    detections: list[Detections]
    all_metrics: dict[str, float]
    class_ap: dict[str, np.ndarray]
    precision: dict[str, np.ndarray]
    image_f1: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> list[str]:
        """K class names; label 1 is the first."""
        return self.images.class_names

    @property
    def objects(self) -> np.ndarray:
        """(K,) number of objects of each class, without crowds."""
        labels = np.concatenate([np.zeros(0, np.int64), *self.images.own_labels])
        return np.bincount(labels, minlength=len(self.class_names) + 1)[1:]

    @property
    def groups(self) -> np.ndarray | None:  # type: ignore[override]
        """(N,) group of each image, or None."""
        return self.images.own_groups

    def metrics(self) -> dict[str, float]:
        """Return the metrics that are not NaN."""
        return {name: value for name, value in self.all_metrics.items() if not math.isnan(value)}

    def resampler(self) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return the AP of objects of all sizes as a function of the indices of drawn images.

        Objects and detections are matched once, in each image; a resample only accumulates the matches.
        """
        if len(self) * len(self.class_names) > MAX_PAIRS or not any(len(each.scores) for each in self.detections):
            return lambda indices: {}
        results = [list(each.results()) for each in self.detections]
        scored = match_detections(self.images, results, masks="mask" in self.class_ap)
        all_sizes = {kind: found[:, :, :1] for kind, found in scored.matches.items()}

        def drawn_metrics(indices: np.ndarray) -> Mapping[str, float]:
            metrics: dict[str, float] = {}
            for kind, found in all_sizes.items():
                metrics |= average_precisions(accumulate(kind, found[indices]), kind, ("ap", "ap50", "ap75"))
            return metrics

        return drawn_metrics


class CocoMetric(MeanAveragePrecision):
    """COCO's average precision, computed with faster-coco-eval.

    Across processes, image order is that of :class:`~transxnet.data.loading.samplers.ShareSampler`.

    Args:
        masks: evaluate masks in addition to boxes.

    Raises:
        UserError: faster-coco-eval is not installed.
    """

    def __init__(self, masks: bool):
        require_package("faster_coco_eval", "transxnet[detect]", "Average precision")
        super().__init__(
            iou_type=("bbox", "segm") if masks else "bbox",
            iou_thresholds=COCO_IOUS.tolist(),
            rec_thresholds=COCO_RECALLS.tolist(),
            extended_summary=True,
            backend="faster_coco_eval",
        )
        self.warn_on_many_detections = False  # COCO evaluates the best 100, as many as the models return

    def update(self, preds: Sequence[dict[str, Tensor]], target: Sequence[Target]) -> None:
        """Add a batch of detector outputs and their annotations."""
        super().update(list(map(_plain_tensors, preds)), list(map(_plain_tensors, target)))

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Gather the images of all processes in their original order.

        torchmetrics' own method hangs if the processes have different numbers of images.
        """
        for name in self._reductions:
            own = [entry.cpu() if isinstance(entry, Tensor) else entry for entry in getattr(self, name)]
            parts: list[Any] = [None] * dist.get_world_size(process_group)
            dist.all_gather_object(parts, own, group=process_group)
            longest = max(map(len, parts))
            setattr(self, name, [part[i] for i in range(longest) for part in parts if i < len(part)])


class DetectionMetric:
    """Accumulates detector outputs, image by image, into a :class:`DetectionEvaluation`.

    Args:
        images: all images that :meth:`update` will receive outputs for.
        masks: evaluate masks in addition to boxes.
    """

    def __init__(self, images: DetectionSet, masks: bool):
        self.images, self.masks = images, masks
        self._metric = CocoMetric(masks)
        self._detections: list[Detections] = []
        self._image_f1: list[float] = []

    def update(self, outputs: Sequence[dict[str, Tensor]], targets: Sequence[Target]) -> None:
        """Add the outputs for the next images, and their annotations."""
        outputs = [{name: value.cpu() for name, value in output.items()} for output in outputs]
        self._metric.update(outputs, targets)
        for output, target in zip(outputs, targets, strict=True):
            self._detections.append(Detections.from_output(output))
            self._image_f1.append(compute_image_f1(output, target))

    def compute(self) -> DetectionEvaluation:
        """Compute the metrics of all images."""
        result = self._metric.compute()
        classes, count = result["classes"].reshape(-1).numpy(), len(self.images.class_names)
        class_ap, precision = {}, {}
        for kind, prefix in _prefixes(self.masks).items():
            class_ap[kind] = np.full(count, np.nan)
            precision[kind] = np.full((count, 101), np.nan)
            whole = _precision(result, prefix)[..., 0]
            class_ap[kind][classes - 1] = [mean_precision(whole[:, :, i]) for i in range(len(classes))]
            precision[kind][classes - 1] = np.where(whole[0] < 0, np.nan, whole[0]).T
        metrics = coco_metrics(result, self.masks)
        return DetectionEvaluation(
            self.images, self._detections, metrics, class_ap, precision, np.array(self._image_f1)
        )


def coco_metrics(result: dict[str, Tensor], masks: bool) -> dict[str, float]:
    """Return :attr:`DetectionEvaluation.all_metrics` from the result of :class:`CocoMetric`."""
    metrics: dict[str, float] = {}
    for kind, prefix in _prefixes(masks).items():
        precision = _precision(result, prefix)
        metrics |= average_precisions(precision, kind)
    return metrics


def _precision(result: dict[str, Tensor], prefix: str) -> np.ndarray:
    """Return (10, 101, K, 4) precision by IoU, recall, class and area range; -1 where there is no object."""
    return result[f"{prefix}precision"][..., -1].numpy()  # for the best 100 detections of each image


def _prefixes(masks: bool) -> dict[str, str]:
    """Return the prefixes of torchmetrics' keys for boxes and masks."""
    return {"box": "bbox_", "mask": "segm_"} if masks else {"box": ""}


def _plain_tensors(item: dict[str, Any]) -> dict[str, Tensor]:
    """Convert an image's outputs or annotations to plain tensors, with masks as bool."""
    names = ("boxes", "labels", "scores", "area", "iscrowd", "masks")
    tensors = {name: item[name].as_subclass(Tensor).detach() for name in names if name in item}
    return tensors | ({"masks": tensors["masks"].bool()} if "masks" in tensors else {})


def compute_image_f1(output: dict[str, Tensor], target: Target) -> float:
    """Compute the F1 of one image's boxes at IoU 0.5, for detections with a score of at least ``MIN_SCORE``.

    An image without objects and without detections has an F1 of 1. False detections mostly inside a crowd region of
    their class do not count.
    """
    counted = output["scores"] >= MIN_SCORE
    order = output["scores"][counted].argsort(descending=True)
    boxes, labels = output["boxes"][counted][order], output["labels"][counted][order]
    true_boxes, true_labels = target["boxes"].as_subclass(Tensor), target["labels"]
    crowd = target["iscrowd"].bool() if "iscrowd" in target else torch.zeros(len(true_boxes), dtype=torch.bool)
    iou = None
    if len(boxes) and len(true_boxes):
        iou = box_iou(boxes, true_boxes) * (labels[:, None] == true_labels)
    unmatched, hits, ignored = ~crowd, 0, 0
    for i in range(len(boxes)):
        if iou is None:
            break
        best = int((iou[i] * unmatched).argmax())
        if iou[i, best] * unmatched[best] >= 0.5:
            unmatched[best] = False
            hits += 1
        elif crowd.any() and _share_inside(boxes[i], true_boxes[crowd & (true_labels == labels[i])]) > 0.5:
            ignored += 1
    total = len(boxes) - ignored + int((~crowd).sum())
    return 2 * hits / total if total else 1.0


def _share_inside(box: Tensor, regions: Tensor) -> float:
    """Return the largest share of a box's area within one of the regions."""
    if not len(regions):
        return 0.0
    sides = torch.minimum(box[2:], regions[:, 2:]) - torch.maximum(box[:2], regions[:, :2])
    return float((sides.clamp(min=0).prod(1) / (box[2:] - box[:2]).prod()).max())


def coco_results(detections: Detections, image_id: int, category_ids: Sequence[int | None]) -> Iterator[dict[str, Any]]:
    """Convert an image's detections to COCO's results format: ``bbox`` is [x, y, width, height] in pixels.

    Detections of classes without an id are dropped.
    """
    for result in detections.results():
        number = category_ids[result.pop("label") - 1]
        if number is not None:
            box, score = [round(value, 2) for value in result["bbox"]], round(result["score"], 6)
            yield {"image_id": image_id, "category_id": number, **result, "bbox": box, "score": score}
