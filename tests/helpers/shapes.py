"""Images of simple shapes with exact targets, and COCO's average precision, for the tests of the heads."""

import numpy as np
import torch
from torch import Tensor

SQUARE, DISC = 1, 2


def shapes_image(
    height: int, width: int, shapes: list[tuple[int, int, int, int, int]], seed: int = 0
) -> tuple[Tensor, dict]:
    """A noisy gray image with shapes (label, x, y, width, height), squares red and discs blue, and its target."""
    pixels = 0.4 + 0.05 * torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    masks = torch.zeros(len(shapes), height, width, dtype=torch.bool)
    for mask, (label, x, y, w, h) in zip(masks, shapes, strict=True):
        inside = (xs > x) & (xs < x + w) & (ys > y) & (ys < y + h)
        if label == DISC:
            inside &= ((xs - x - w / 2) / (w / 2)) ** 2 + ((ys - y - h / 2) / (h / 2)) ** 2 < 1
        mask.copy_(inside)
        color = torch.tensor([0.9, 0.1, 0.1] if label == SQUARE else [0.1, 0.2, 0.9])
        pixels = torch.where(inside, color[:, None, None], pixels)
    boxes = torch.tensor([[x, y, x + w, y + h] for _, x, y, w, h in shapes], dtype=torch.float32).reshape(-1, 4)
    labels = torch.tensor([shape[0] for shape in shapes], dtype=torch.int64)
    return pixels.clamp(0, 1), dict(boxes=boxes, labels=labels, masks=masks)


def two_images() -> tuple[list[Tensor], list[dict]]:
    """Two images of 96x96 and 96x80 with two and three shapes."""
    first = shapes_image(96, 96, [(SQUARE, 8, 12, 40, 36), (DISC, 52, 44, 36, 44)], seed=1)
    second = shapes_image(96, 80, [(DISC, 6, 8, 34, 34), (SQUARE, 44, 20, 30, 50), (DISC, 10, 54, 28, 36)], seed=2)
    return [first[0], second[0]], [first[1], second[1]]


def average_precision(found: list[dict], truth: list[dict], what: str = "boxes") -> float:
    """COCO's AP over IoU 0.5, 0.55 ... 0.95, 101 recall thresholds and the existing classes."""
    labels = sorted({int(label) for target in truth for label in target["labels"]})
    return float(np.mean([_ap(found, truth, what, n, t) for n in labels for t in np.arange(0.5, 1.0, 0.05)]))


def _ap(found: list[dict], truth: list[dict], what: str, label: int, threshold: float) -> float:
    total, marks = 0, []
    for answer, target in zip(found, truth, strict=True):
        theirs, ours = answer["labels"] == label, target["labels"] == label
        overlap = _iou(answer[what][theirs], target[what][ours]).numpy()
        free = np.ones(overlap.shape[1], bool)
        total += len(free)
        for i in answer["scores"][theirs].argsort(descending=True).tolist():
            candidates = np.where(free, overlap[i], -1)
            best = int(candidates.argmax()) if len(candidates) else 0
            hit = bool(len(candidates)) and candidates[best] >= threshold
            if hit:
                free[best] = False
            marks.append((-float(answer["scores"][theirs][i]), hit))
    hits = np.cumsum([hit for _, hit in sorted(marks, key=lambda mark: mark[0])] or [False])
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    return float(np.mean([max(precision[recall >= r - 1e-9], default=0) for r in np.linspace(0, 1, 101)]))


def _iou(a: Tensor, b: Tensor) -> Tensor:
    if a.ndim == 3:
        a, b = a.flatten(1).float(), b.flatten(1).float()
        common = a @ b.T
        return common / (a.sum(1)[:, None] + b.sum(1) - common)
    corner = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2])
    common = corner.clamp(min=0).prod(2)
    areas = [(x[:, 2:] - x[:, :2]).prod(1) for x in (a, b)]
    return common / (areas[0][:, None] + areas[1] - common)
