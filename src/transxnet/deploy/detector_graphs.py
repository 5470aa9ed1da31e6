"""Detectors to trace: one image in, a fixed number of detections out."""

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from transxnet.deploy.export_graphs import InputNormalization
from transxnet.heads import MaskRCNN, RetinaNet
from transxnet.heads.anchors import Anchors
from transxnet.heads.detector_transform import at_least_float32
from transxnet.heads.roi_heads import PyramidRoIAlign

MAX_CANDIDATES = 5000
"""Number of Mask R-CNN's boxes before the last non-maximum suppression; the detector itself takes all."""

MIN_SIDE = 0.01
"""Smallest width and height of Mask R-CNN's boxes in pixels, as in torchvision."""


class DetectorGraph(nn.Module):
    """One image in 0 to 1 -> a fixed number of detections.

    The caller resizes the image to the detector's scale. The output is the detector's own, with two differences that
    keep shapes fixed: detections below the score threshold are included, and if non-maximum suppression leaves fewer
    than ``detections_per_img``, the rest has label and score 0.

    Args:
        normalize: input normalization.
        detector: in evaluation mode.
        anchors: its anchors.

    Shapes:
        images (1, 3, H, W) and optionally limits (4,), which are width, height, width and height of the image without
        padding -> boxes (D, 4) as (x1, y1, x2, y2) in pixels, labels (D,) from 1, int64, and scores (D,), in
        descending order of score.
    """

    def __init__(self, normalize: InputNormalization, detector: RetinaNet | MaskRCNN, anchors: Anchors):
        super().__init__()
        self.normalize, self.backbone, self.strides = normalize, detector.backbone, anchors.strides
        for name, values in (("mean", detector.transform.image_mean), ("std", detector.transform.image_std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1))
        for level, cell in enumerate(anchors.cell_anchors):
            self.register_buffer(f"anchors{level}", cell.float())

    def forward(self, images: Tensor, limits: Tensor | None = None) -> tuple[Tensor, ...]:
        images = self.normalize(images)
        height, width = images.shape[2:]
        images = ((images - self.mean) / self.std).to(images.dtype)  # the buffers are float32
        images = F.pad(images, (0, -width % 32, 0, -height % 32))
        if limits is None:
            limits = torch.stack([torch.scalar_tensor(side, dtype=torch.float32) for side in (width, height) * 2])
        return self.detect(self.backbone(images), limits)

    @abstractmethod
    def detect(self, features: Mapping[str, Tensor], limits: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs from the pyramid; ``limits`` (4,) are width, height, width and height."""

    def decoded_anchors(self, level: int, deltas: Tensor, index: Tensor, size: torch.Size) -> Tensor:
        """Apply deltas (A, 4) to the anchors of a level with this height and width, at an index (N,): (N, 4)."""
        anchors = self._anchors(level, *size)
        return self.box_coder.decode_single(deltas[index], anchors[index])

    def _anchors(self, level: int, height: int, width: int) -> Tensor:
        """The anchors of one level, as in :class:`~transxnet.heads.anchors.Anchors`: (height * width * A, 4)."""
        cell, stride = getattr(self, f"anchors{level}"), self.strides[level]
        x, y = torch.arange(width, device=cell.device) * stride, torch.arange(height, device=cell.device) * stride
        x, y = x.expand(height, width), y[:, None].expand(height, width)
        shifts = torch.stack([x, y, x, y], dim=2).to(cell.dtype)
        return (shifts[:, :, None] + cell).flatten(0, 2)


class RetinaNetGraph(DetectorGraph):
    """RetinaNet; see :class:`DetectorGraph`."""

    def __init__(self, normalize: InputNormalization, detector: RetinaNet):
        super().__init__(normalize, detector, detector.anchor_generator)
        self.head, self.box_coder = detector.head, detector.box_coder
        self.num_classes, self.nms_thresh = detector.num_classes, detector.nms_thresh
        self.candidates, self.count = detector.topk_candidates, detector.detections_per_img

    def detect(self, features: Mapping[str, Tensor], limits: Tensor) -> tuple[Tensor, ...]:
        """Compute boxes, labels and scores."""
        levels = [self._candidates(level, x) for level, x in enumerate(features.values())]
        boxes, labels, scores = (torch.cat(parts) for parts in zip(*levels, strict=True))
        boxes = clip(boxes, limits)
        scores = scores * (smaller_side(boxes) > 0)  # without an area, after all others
        boxes, labels, scores = suppress(boxes, labels, scores, self.num_classes, self.nms_thresh, self.count)
        return boxes, (labels + 1) * (scores > 0), scores

    def _candidates(self, level: int, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, labels from 0 and scores of the best candidates at one level."""
        outputs = self.head([features])
        deltas, scores = outputs["bbox_regression"][0].float(), outputs["cls_logits"][0].float().sigmoid().flatten()
        scores, index = best(scores, self.candidates)
        places, labels = index // self.num_classes, index % self.num_classes
        return self.decoded_anchors(level, deltas, places, features.shape[2:]), labels, scores


class MaskRCNNGraph(DetectorGraph):
    """Mask R-CNN with a fixed number of proposals; see :class:`DetectorGraph`.

    If non-maximum suppression leaves fewer proposals, the rest has no area and no score. Each region is pooled from all
    levels of the pyramid, but as a region without an area from those that do not fit its size, which costs nothing.

    Shapes:
        images (1, 3, H, W) -> boxes, labels and scores, and masks (D, 1, M, M), each spanning its box, in 0 to 1.
    """

    def __init__(self, normalize: InputNormalization, detector: MaskRCNN):
        super().__init__(normalize, detector, detector.rpn.anchor_generator)
        self.rpn_head, self.box_coder = detector.rpn.head, detector.rpn.box_coder
        self.heads, self.num_classes = detector.roi_heads, detector.num_classes
        self.candidates, self.count = detector.rpn.pre_nms_top_n(), detector.rpn.post_nms_top_n()
        self.proposal_nms = detector.rpn.nms_thresh

    def detect(self, features: Mapping[str, Tensor], limits: Tensor) -> tuple[Tensor, ...]:
        """Compute boxes, labels, scores and masks."""
        heads, maps = self.heads, list(features.values())
        proposals, valid = self._proposals(maps, limits)
        logits, deltas = heads.box_predictor(heads.box_head(pool(heads.box_roi_pool, maps, proposals)))
        scores = (logits.float().softmax(1)[:, 1:] * valid[:, None]).flatten()
        boxes = heads.box_coder.decode_single(deltas.float(), proposals).unflatten(1, (-1, 4))[:, 1:].flatten(0, 1)
        boxes = clip(boxes, limits)
        scores = scores * (smaller_side(boxes) >= MIN_SIDE)
        scores, index = best(scores, min(MAX_CANDIDATES, self.count * self.num_classes))
        boxes, labels, scores = suppress(
            boxes[index], index % self.num_classes, scores, self.num_classes, heads.nms_thresh, heads.detections_per_img
        )
        labels = (labels + 1) * (scores > 0)
        masks = heads.mask_predictor(heads.mask_head(pool(heads.mask_roi_pool, maps, boxes)))
        own = masks[torch.arange(heads.detections_per_img), labels]
        return boxes, labels, scores, own[:, None].float().sigmoid()

    def _proposals(self, maps: list[Tensor], limits: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4), and whether each of them is a proposal."""
        candidates = []
        for level, (logits, deltas) in enumerate(zip(*self.rpn_head(maps), strict=True)):
            scores, index = best(rank(logits[0].permute(1, 2, 0).flatten()), self.candidates)
            flat = deltas[0].unflatten(0, (-1, 4)).permute(2, 3, 0, 1).flatten(0, 2)
            boxes = self.decoded_anchors(level, flat, index, maps[level].shape[2:])
            candidates.append((boxes, torch.full_like(index, level), scores))
        boxes, levels, scores = (torch.cat(parts) for parts in zip(*candidates, strict=True))
        boxes = clip(boxes, limits)
        scores = scores * (smaller_side(boxes) > 0)
        boxes, _, scores = suppress(boxes, levels, scores, len(maps), self.proposal_nms, self.count)
        valid = scores > 0
        return boxes * valid[:, None], valid


def rank(logits: Tensor) -> Tensor:
    """Return positive float32 scores in the order of logits (N,), from -340 to 340: (N,).

    Runtimes compute a sigmoid below 1e-7 as 0, which means no proposal here; the detector keeps such proposals.
    """
    return (logits.float() / 4).exp()


def best(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores (count,) and their index; if there are fewer, the rest has score 0."""
    total = scores.shape[0]
    scores, index = F.pad(scores, (0, count)).topk(count)
    return scores, torch.minimum(index, torch.scalar_tensor(total - 1, dtype=index.dtype))


def clip(boxes: Tensor, limits: Tensor) -> Tensor:
    """Clip boxes (N, 4) to the image."""
    return torch.minimum(boxes.clamp(min=0), limits)


def smaller_side(boxes: Tensor) -> Tensor:
    """Return the smaller of the width and height of boxes (N, 4): (N,)."""
    return (boxes[:, 2:] - boxes[:, :2]).amin(1)


def suppress(
    boxes: Tensor, groups: Tensor, scores: Tensor, num_groups: int, threshold: float, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Suppress boxes that overlap a better one of their group.

    The groups are laid out in a square, since coordinates lose precision as they grow.

    Args:
        boxes: (N, 4).
        groups: (N,) from 0.
        scores: (N,).
        num_groups: number of groups.
        threshold: largest IoU that remains.
        count: number of boxes to return, padded with zeros.

    Returns:
        Boxes (count, 4), groups (count,) and scores (count,) in descending order of score.
    """
    side, extent = math.ceil(math.sqrt(num_groups)), boxes.max() + 1
    x, y = groups % side * extent, groups // side * extent
    kept = nms(boxes + torch.stack([x, y, x, y], dim=1), scores, threshold)
    padded = (torch.cat([x[kept], x.new_zeros((count, *x.shape[1:]))])[:count] for x in (boxes, groups, scores))
    boxes, groups, scores = padded
    return boxes, groups, scores


def pool(align: PyramidRoIAlign, maps: list[Tensor], boxes: Tensor) -> Tensor:
    """Pool the features of boxes (N, 4) from the level that fits their size: (N, C, M, M), in the maps' data type."""
    regions, levels, size = F.pad(boxes, (1, 0)), align.levels(boxes), (align.output_size, align.output_size)
    pooled = None
    for level, (features, stride) in enumerate(zip(maps, align.strides, strict=False)):
        here = levels == level
        own = roi_align(
            at_least_float32(features), regions * here[:, None], size, 1 / stride, sampling_ratio=0, aligned=True
        )
        pooled = own if pooled is None else torch.where(here[:, None, None, None], own, pooled)
    assert pooled is not None
    return pooled.to(maps[0].dtype)
