"""Merge the outputs of an image and of its horizontal flip (test-time augmentation)."""

import torch
from torch import Tensor
from torchvision.ops import batched_nms

NMS_IOU = 0.5
"""IoU of the NMS that merges the boxes, that of Detectron2's test-time augmentation."""

MAX_DETECTIONS = 100
"""Most detections of an image, as many as detectors return and COCO evaluates."""


def merge_outputs(outputs: Tensor, flipped: Tensor) -> Tensor:
    """Return the mean of two tensors of probabilities or values."""
    return (outputs + flipped) / 2


def merge_detections(found: dict[str, Tensor], flipped: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """Merge the objects in an image and in its flip by NMS of each class, highest score first.

    Args:
        found: boxes, labels, scores and masks in the image.
        flipped: the same in its horizontal flip.
        width: width of the image in pixels.
    """
    x1, y1, x2, y2 = flipped["boxes"].unbind(1)
    mirrored = flipped | {"boxes": torch.stack([width - x2, y1, width - x1, y2], 1)}
    if "masks" in flipped:
        mirrored["masks"] = flipped["masks"].flip(-1)
    merged = {name: torch.cat([found[name], mirrored[name]]) for name in found}
    kept = batched_nms(merged["boxes"], merged["scores"], merged["labels"], NMS_IOU)[:MAX_DETECTIONS]
    return {name: values[kept] for name, values in merged.items()}
