"""Findings about the boxes of objects: tiny, huge, and duplicate ones."""

import numpy as np
import torch
from torchvision.ops import box_iou

from transxnet.checking.all_images import AllImages
from transxnet.checking.check_findings import DataFinding, Kind
from transxnet.data.datasets.detection_dataset import DetectionSet

MIN_SIDE, MAX_COVER, MIN_IOU = 4.0, 0.95, 0.9
"""Tiny boxes have a shorter side in pixels, huge boxes cover this fraction of the image, duplicates have this IoU."""


def box_findings(images: AllImages) -> list[DataFinding]:
    """Return the findings about the boxes of all sets of objects; crowds are not checked."""
    return [
        finding
        for first, part in zip(images.first.tolist(), images.sets.values(), strict=False)
        if isinstance(part, DetectionSet)
        for index in range(len(part))
        for finding in _in_image(part, index, first + index)
    ]


def _in_image(part: DetectionSet, index: int, number: int) -> list[DataFinding]:
    target = part.target(index, crowds=False)
    boxes = target["boxes"].as_subclass(torch.Tensor).numpy()
    names = [part.class_names[label - 1] for label in target["labels"].tolist()]
    height, width = part.own_sizes[index].tolist()
    sides = boxes[:, 2:] - boxes[:, :2]
    tiny = sides.min(axis=1, initial=np.inf) < MIN_SIDE
    huge = sides.prod(axis=1) >= MAX_COVER * height * width
    found = []
    for kind, chosen in ((Kind.BOX_TINY, tiny), (Kind.BOX_HUGE, huge)):
        for i in np.flatnonzero(chosen):
            detail = f"{names[i]}, {sides[i, 0]:.4g}x{sides[i, 1]:.4g} in {width}x{height}"
            found.append(DataFinding(kind, (number,), detail, boxes=(tuple(boxes[i].tolist()),)))
    overlap = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).triu(1)
    for i, j in (overlap >= MIN_IOU).nonzero().tolist():
        both = names[i] if names[i] == names[j] else f"{names[i]} and {names[j]}"
        pair = (tuple(boxes[i].tolist()), tuple(boxes[j].tolist()))
        found.append(DataFinding(Kind.BOX_DUPLICATE, (number,), f"{both}, IoU {overlap[i, j]:.2f}", boxes=pair))
    return found
