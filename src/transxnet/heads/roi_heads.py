"""Mask R-CNN's heads for each proposed region: its class, a refined box and a mask."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import RoIHeads as TorchvisionRoIHeads
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import box_area, roi_align

from transxnet.heads.anchors import AnchorMatcher, BoxCoder
from transxnet.heads.detector_transform import MASK_THRESHOLD, at_least_float32

FINEST_SCALE = 56
"""Side in pixels of regions from which P3 is used instead of P2."""


class PyramidRoIAlign(nn.Module):
    """RoIAlign with half-pixel centers, from the pyramid level that fits a region's size.

    torchvision's own version, made for weights from before that correction, samples half a cell off. It also guesses
    the levels' strides from the first batch, wrongly if its images are small.

    Args:
        output_size: M.
        strides: strides of the levels, each twice the previous one.

    Shapes:
        features (name to (B, C, H, W), finest first) and boxes (for each image (N, 4), in pixels of the batch)
        -> (sum of N, C, M, M) in float32.

    Source:
        He et al., "Mask R-CNN", Sec. 3; Lin et al., "Feature Pyramid Networks", Eq. 1, with 224 on P4.
    """

    def __init__(self, output_size: int, strides: Sequence[int] = (4, 8, 16, 32)):
        super().__init__()
        self.output_size = output_size
        self.strides = tuple(strides)

    def levels(self, boxes: Tensor) -> Tensor:
        """The index of each box's level: (N, 4) -> (N,)."""
        levels = torch.log2(box_area(boxes).sqrt() / FINEST_SCALE + 1e-6).floor()
        return levels.clamp(0, len(self.strides) - 1).long()

    def forward(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Pool the features of each box."""
        maps = [at_least_float32(feature) for feature in list(features.values())[: len(self.strides)]]
        images = torch.cat([torch.full_like(b[:, :1], i) for i, b in enumerate(boxes)])
        regions = torch.cat([images, torch.cat(boxes)], 1).to(maps[0].dtype)
        levels = self.levels(regions[:, 1:])
        size = (self.output_size, self.output_size)
        pooled = maps[0].new_zeros((len(regions), maps[0].shape[1], *size))
        for i, (feature, stride) in enumerate(zip(maps, self.strides, strict=True)):
            here = torch.where(levels == i)[0]
            pooled[here] = roi_align(feature, regions[here], size, 1 / stride, sampling_ratio=0, aligned=True)
        return pooled


class RoIHeads(TorchvisionRoIHeads):
    """Mask R-CNN's two heads with the losses of mmdetection 2.x: L1 for boxes, mask targets with half-pixel centers.

    Takes torchvision's arguments by name, with :class:`PyramidRoIAlign` as both pools. Class 0 is the background.

    Detections without an area (less than 0.01 pixels wide or high) are dropped before NMS. mmdetection keeps them here,
    though not in its other heads; they overlap no object and can only take the place of others.
    """

    def __init__(
        self,
        *,
        fg_iou_thresh: float,
        bg_iou_thresh: float,
        bbox_reg_weights: tuple[float, float, float, float],
        **kwargs: Any,
    ):
        super().__init__(
            fg_iou_thresh=fg_iou_thresh, bg_iou_thresh=bg_iou_thresh, bbox_reg_weights=bbox_reg_weights, **kwargs
        )
        self.proposal_matcher = AnchorMatcher(fg_iou_thresh, bg_iou_thresh, min_quality=fg_iou_thresh)
        self.box_coder = BoxCoder(bbox_reg_weights)

    def assign_targets_to_proposals(
        self, proposals: list[Tensor], gt_boxes: list[Tensor], gt_labels: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Match proposals to objects; return each one's object and label, where 0 is background.

        The last proposals of an image are its objects' own boxes. They take no part in the matching, since each would
        be its object's best proposal.
        """
        found = [p[: len(p) - len(boxes)] for p, boxes in zip(proposals, gt_boxes, strict=True)]
        matches, labels = super().assign_targets_to_proposals(found, gt_boxes, gt_labels)
        own = [torch.arange(len(boxes), device=boxes.device) for boxes in gt_boxes]
        return (
            [torch.cat(pair) for pair in zip(matches, own, strict=True)],
            [torch.cat(pair) for pair in zip(labels, gt_labels, strict=True)],
        )

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Return the losses of sampled proposals in training, else each image's boxes, labels, scores and masks."""
        if self.training:
            return [], self.losses(features, proposals, targets)
        logits, deltas = self.classify(features, proposals)
        found = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        results = [dict(boxes=b, scores=s, labels=n) for b, s, n in zip(*found, strict=True)]
        boxes, labels = [r["boxes"] for r in results], [r["labels"] for r in results]
        for result, masks in zip(results, maskrcnn_inference(self.segment(features, boxes), labels), strict=True):
            result["masks"] = masks
        return results, {}

    def classify(self, features: dict[str, Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute logits (N, K + 1) and, for each class, deltas (N, 4 (K + 1)) of N boxes."""
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, boxes)))
        return at_least_float32(logits), at_least_float32(deltas)

    def segment(self, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """Compute mask logits (N, K + 1, M, M) of N boxes."""
        return at_least_float32(self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes))))

    def losses(
        self, features: dict[str, Tensor], proposals: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> dict[str, Tensor]:
        """Compute the losses of sampled proposals: cross-entropy for classes and masks, L1 for boxes."""
        boxes, matches, labels, truth_deltas = self.select_training_samples(proposals, targets)
        logits, deltas = self.classify(features, boxes)
        all_labels = torch.cat(labels)
        positive = torch.where(all_labels > 0)[0]
        chosen = deltas.unflatten(1, (-1, 4))[positive, all_labels[positive]]
        count = max(len(all_labels), 1)
        return {
            "loss_classifier": F.cross_entropy(logits, all_labels, reduction="sum") / count,
            "loss_box_reg": F.l1_loss(chosen, torch.cat(truth_deltas)[positive], reduction="sum") / count,
            "loss_mask": self.mask_loss(features, boxes, matches, labels, targets),
        }

    def mask_loss(
        self,
        features: dict[str, Tensor],
        boxes: list[Tensor],
        matches: list[Tensor],
        labels: list[Tensor],
        targets: list[dict[str, Tensor]] | None,
    ) -> Tensor:
        """Binary cross-entropy of the true class's mask in each positive box; 0 without positive boxes."""
        assert targets is not None
        positive = [torch.where(image_labels > 0)[0] for image_labels in labels]
        boxes = [b[p] for b, p in zip(boxes, positive, strict=True)]
        logits = self.segment(features, boxes)
        if not len(logits):
            return logits.sum() * 0
        truths = [
            mask_targets(target["masks"], b, m[p], logits.shape[-1])
            for target, b, m, p in zip(targets, boxes, matches, positive, strict=True)
        ]
        classes = torch.cat([n[p] for n, p in zip(labels, positive, strict=True)])
        logits = logits[torch.arange(len(classes), device=classes.device), classes]
        return F.binary_cross_entropy_with_logits(logits, torch.cat(truths).to(logits))


def mask_targets(masks: Tensor, boxes: Tensor, matches: Tensor, size: int) -> Tensor:
    """Compute the mask head's target for each box: its object's mask, cropped and resized.

    Args:
        masks: bool or uint8 (objects, H, W).
        boxes: (N, 4) in pixels of the masks.
        matches: (N,) index of each box's object.
        size: M.

    Returns:
        bool (N, M, M): whether at least half of the cell belongs to the object.
    """
    regions = torch.cat([matches[:, None].to(boxes), boxes], 1)
    cut = roi_align(masks[:, None].to(boxes), regions, (size, size), 1.0, sampling_ratio=0, aligned=True)
    return cut[:, 0] >= MASK_THRESHOLD
