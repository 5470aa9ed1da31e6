"""What a detector found in a set of images, and every figure that follows from it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_iou

from transxnet.data.datasets.detection_dataset import DetectionSet, Target
from transxnet.data.reading.masks import encode_mask

SURE = 0.5
"""Score from which a detection counts for :func:`image_f1`, and is drawn."""

_IOUS, _RECALLS = np.linspace(0.5, 0.95, 10), np.linspace(0, 1, 101)
"""COCO's thresholds in double precision; torchmetrics' own are rounded to single, and a recall of 0.1 misses them."""

_FIGURES: dict[str, tuple[Any, int]] = {
    "ap": (slice(None), 0),
    "ap50": (slice(0, 1), 0),
    "ap75": (slice(5, 6), 0),
    "ap_small": (slice(None), 1),
    "ap_medium": (slice(None), 2),
    "ap_large": (slice(None), 3),
}
"""COCO's figures: which of its IoUs and which of its ranges of area each is a mean over."""


@dataclass(frozen=True)
class Found:
    """What a detector found in one image, best first.

    Attributes:
        boxes: (D, 4) float32, x1, y1, x2, y2 in pixels of the image.
        labels: (D,) int64, 1 to K.
        scores: (D,) float32, 0 to 1.
        masks: D masks in COCO's run lengths, or None of a detector of boxes.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    masks: list[dict[str, Any]] | None = None

    @classmethod
    def of(cls, answer: dict[str, Tensor]) -> "Found":
        """From what a detector answers for one image."""
        boxes, labels, scores = (answer[name].cpu().numpy() for name in ("boxes", "labels", "scores"))
        masks = [encode_mask(mask.cpu().numpy()) for mask in answer["masks"]] if "masks" in answer else None
        return cls(boxes, labels, scores, masks)

    def sure(self, score: float = SURE) -> "Found":
        """What was found with at least this score."""
        kept = np.flatnonzero(self.scores >= score)
        masks = None if self.masks is None else [self.masks[i] for i in kept]
        return Found(self.boxes[kept], self.labels[kept], self.scores[kept], masks)


@dataclass(frozen=True)
class DetectionEvaluation:
    """A detector's answers on N images with objects of K classes.

    Attributes:
        images: the images with the truth.
        found: what was found in each, in their order.
        figures: by name, 0 to 1, NaN where there is no such object: ``ap`` (COCO's, of boxes), ``ap50``, ``ap75``,
            ``ap_small``, ``ap_medium``, ``ap_large``, and the same with ``mask_`` before them for masks.
        class_ap: (K,) AP of each class under "box" and, for masks, "mask"; NaN for classes that have no object.
        precision: (K, 101) precision at IoU 0.5 at the recalls 0, 0.01 ... 1, under the same keys; NaN likewise.
        quality: (N,) :func:`image_f1` of each image.
    """

    images: DetectionSet
    found: list[Found]
    figures: dict[str, float]
    class_ap: dict[str, np.ndarray]
    precision: dict[str, np.ndarray]
    quality: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def class_names(self) -> list[str]:
        """K names; label 1 is the first."""
        return self.images.class_names

    @property
    def objects(self) -> np.ndarray:
        """(K,) how many objects of each class there are, crowds left out."""
        labels = np.concatenate([np.zeros(0, np.int64), *self.images.own_labels])
        return np.bincount(labels, minlength=len(self.class_names) + 1)[1:]

    def metrics(self) -> dict[str, float]:
        """The figures that are numbers."""
        return {name: value for name, value in self.figures.items() if not math.isnan(value)}


class DetectionScore:
    """Adds up answers, image by image, to a :class:`DetectionEvaluation`.

    Args:
        images: all that will be answered for.
        masks: whether masks are judged as well.
    """

    def __init__(self, images: DetectionSet, masks: bool):
        self.images, self.masks = images, masks
        self._metric = CocoMetric(masks)
        self._found: list[Found] = []
        self._quality: list[float] = []

    def update(self, answers: Sequence[dict[str, Tensor]], targets: Sequence[Target]) -> None:
        """Take the answers for the next images, and what is true of them."""
        answers = [{name: value.cpu() for name, value in answer.items()} for answer in answers]
        self._metric.update(*comparable(answers, targets))
        for answer, target in zip(answers, targets, strict=True):
            self._found.append(Found.of(answer))
            self._quality.append(image_f1(answer, target))

    def result(self) -> DetectionEvaluation:
        """The figures of all images."""
        result = self._metric.compute()
        classes, count = result["classes"].reshape(-1).numpy(), len(self.images.class_names)
        class_ap, precision = {}, {}
        for kind, prefix in _prefixes(self.masks).items():
            class_ap[kind] = np.full(count, np.nan)
            precision[kind] = np.full((count, 101), np.nan)
            whole = _precision(result, prefix)[..., 0]
            class_ap[kind][classes - 1] = [_mean(whole[:, :, i]) for i in range(len(classes))]
            precision[kind][classes - 1] = np.where(whole[0] < 0, np.nan, whole[0]).T
        figures = coco_figures(result, self.masks)
        return DetectionEvaluation(self.images, self._found, figures, class_ap, precision, np.array(self._quality))


class CocoMetric(MeanAveragePrecision):
    """COCO's metric by pycocotools.

    Several processes take the images in turn, as :class:`~transxnet.data.sampler.ShareSampler` shares them out.

    Args:
        masks: judge masks as well as boxes.
    """

    def __init__(self, masks: bool):
        super().__init__(
            iou_type=("bbox", "segm") if masks else "bbox",
            iou_thresholds=_IOUS.tolist(),
            rec_thresholds=_RECALLS.tolist(),
            extended_summary=True,
        )
        self.warn_on_many_detections = False  # COCO counts the best 100, and so do the models

    def _sync_dist(self, dist_sync_fn: Any = None, process_group: Any = None) -> None:
        """Put the images of all processes in their order again.

        torchmetrics' own way is for processes with equally many images, and waits for ever for the others.
        """
        for name in self._reductions:
            own = [entry.cpu() if isinstance(entry, Tensor) else entry for entry in getattr(self, name)]
            parts: list[Any] = [None] * dist.get_world_size(process_group)
            dist.all_gather_object(parts, own, group=process_group)
            longest = max(map(len, parts))
            setattr(self, name, [part[i] for i in range(longest) for part in parts if i < len(part)])


def coco_figures(result: dict[str, Tensor], masks: bool) -> dict[str, float]:
    """The figures of :class:`DetectionEvaluation` from what the metric computed."""
    figures = {}
    for kind, prefix in _prefixes(masks).items():
        precision = _precision(result, prefix)
        for name, (ious, area) in _FIGURES.items():
            figures[name if kind == "box" else f"mask_{name}"] = _mean(precision[ious, ..., area])
    return figures


def _precision(result: dict[str, Tensor], prefix: str) -> np.ndarray:
    """(10, 101, K, 4) precision by IoU, recall, class and range of area; -1 where there is no object."""
    return result[f"{prefix}precision"][..., -1].numpy()  # of the best 100 detections


def _mean(precision: np.ndarray) -> float:
    """Mean of what is known."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else math.nan


def comparable(
    answers: Sequence[dict[str, Tensor]], targets: Sequence[Target]
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Answers and truths as the metric takes them: plain tensors, masks bool."""
    names = ("boxes", "labels", "scores", "area", "iscrowd", "masks")

    def plain(item: dict[str, Any]) -> dict[str, Tensor]:
        tensors = {name: item[name].as_subclass(Tensor).detach() for name in names if name in item}
        return tensors | ({"masks": tensors["masks"].bool()} if "masks" in tensors else {})

    return list(map(plain, answers)), list(map(plain, targets))


def image_f1(answer: dict[str, Tensor], target: Target) -> float:
    """How well one image was understood: F1 of the boxes with a score of at least ``SURE``, at IoU 0.5.

    An image without objects in which nothing was found counts 1. What was found mostly inside a crowd does not count.
    """
    sure = answer["scores"] >= SURE
    order = answer["scores"][sure].argsort(descending=True)
    boxes, labels = answer["boxes"][sure][order], answer["labels"][sure][order]
    truth, true_labels = target["boxes"].as_subclass(Tensor), target["labels"]
    crowd = target["iscrowd"].bool() if "iscrowd" in target else torch.zeros(len(truth), dtype=torch.bool)
    overlap = box_iou(boxes, truth) * (labels[:, None] == true_labels) if len(boxes) and len(truth) else None
    free, hits, ignored = ~crowd, 0, 0
    for i in range(len(boxes)):
        if overlap is None:
            break
        best = int((overlap[i] * free).argmax())
        if overlap[i, best] * free[best] >= 0.5:
            free[best] = False
            hits += 1
        elif crowd.any() and _share_inside(boxes[i], truth[crowd & (true_labels == labels[i])]) > 0.5:
            ignored += 1
    total = len(boxes) - ignored + int((~crowd).sum())
    return 2 * hits / total if total else 1.0


def _share_inside(box: Tensor, regions: Tensor) -> float:
    """Largest share of a box's area within one of the regions."""
    if not len(regions):
        return 0.0
    sides = torch.minimum(box[2:], regions[:, 2:]) - torch.maximum(box[:2], regions[:, :2])
    return float((sides.clamp(min=0).prod(1) / (box[2:] - box[:2]).prod()).max())


def _prefixes(masks: bool) -> dict[str, str]:
    """What the metric puts before the figures of boxes and of masks."""
    return {"box": "bbox_", "mask": "segm_"} if masks else {"box": ""}


def coco_results(found: Found, image_id: int, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """What was found in an image in COCO's format of results: ``bbox`` is [x, y, width, height] in pixels."""
    for i, (box, label, score) in enumerate(zip(found.boxes.tolist(), found.labels, found.scores, strict=True)):
        x1, y1, x2, y2 = box
        result: dict[str, Any] = {
            "image_id": image_id,
            "category_id": category_ids[label - 1],
            "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
            "score": round(float(score), 6),
        }
        if found.masks is not None:
            result["segmentation"] = found.masks[i]
        yield result
