"""Detect objects tile by tile, and merge the detections of objects that are in several tiles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torchvision.ops import batched_nms

from transxnet.data.reading.masks import decode_mask, encode_part
from transxnet.data.tiling import Tiling
from transxnet.metrics.detection import Detections

SAME = 0.5
"""Smallest overlap of detections of one object: the IoU of NMS, and the fraction that one covers of the other."""

EDGE = 0.01
"""A box that ends within this fraction of the tile's side from its border is cut by the border."""


@dataclass(frozen=True)
class _TileDetections:
    """The D detections of all tiles.

    Attributes:
        windows: (D, 4) tile of each detection.
        boxes: (D, 4) in pixels of the image.
        labels: (D,).
        scores: (D,).
        cut: (D,) whether the box ends at a border to another tile.
        masks: D masks in COCO's run-length encoding, at the size of the tile; None for a box detector.
    """

    windows: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    cut: np.ndarray
    masks: list[dict[str, Any]] | None


def detect_tiles(detect: Callable[[Tensor], dict[str, Tensor]], image: Tensor, tiling: Tiling) -> Detections:
    """Detect objects in an image tile by tile.

    A box that a border to another tile cuts is dropped if the other tile has the complete object. Otherwise it is
    merged with the cut boxes of the same object in the other tiles: the boxes and masks are united, and the highest
    score is kept. NMS of each class removes the other duplicates.

    Args:
        detect: returns the boxes, labels, scores and masks in a tile (3, h, w).
        image: (3, H, W).
        tiling: the tiles.

    Returns:
        The objects, highest score first. Their number is limited per tile only.
    """
    height, width = image.shape[1:]
    found = _detect_each(detect, image, tiling)
    groups = list(_group_parts(found))
    corners = [(found.boxes[group, :2].min(0), found.boxes[group, 2:].max(0)) for group in groups]
    boxes = np.array([np.concatenate(pair) for pair in corners], np.float32).reshape(-1, 4)
    scores = np.array([found.scores[group].max() for group in groups], np.float32)
    labels = np.array([found.labels[group[0]] for group in groups], np.int64)
    kept = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), SAME).numpy()
    masks = None if found.masks is None else [_united_mask(found, groups[i], height, width) for i in kept]
    return Detections(boxes[kept], labels[kept], scores[kept], masks)


def _detect_each(detect: Callable[[Tensor], dict[str, Tensor]], image: Tensor, tiling: Tiling) -> _TileDetections:
    height, width = image.shape[1:]
    windows, parts, cut = tiling.windows(height, width), [], []
    for left, top, right, bottom in windows:
        part = Detections.from_output(detect(image[:, top:bottom, left:right]))
        edge, size = EDGE * tiling.size, np.array([right - left, bottom - top])
        inner = np.array([left > 0, top > 0, right < width, bottom < height])
        distance = np.concatenate([part.boxes[:, :2], size - part.boxes[:, 2:]], 1)
        cut.append(((distance <= edge) & inner).any(1))
        parts.append(part)
    counts = [len(part.scores) for part in parts]
    places = np.repeat(np.array(windows), counts, axis=0)
    boxes = np.concatenate([part.boxes for part in parts]) + np.tile(places[:, :2], 2)
    labels, scores = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "scores"))
    masks = None if parts[0].masks is None else [mask for part in parts for mask in part.masks or ()]
    return _TileDetections(places, boxes.astype(np.float32), labels, scores, np.concatenate(cut), masks)


def _group_parts(found: _TileDetections) -> Iterator[np.ndarray]:
    """Iterate over the detections of each object: a complete one, or the parts that borders have cut."""
    yield from np.flatnonzero(~found.cut)[:, None]
    pairs, rest = [np.zeros((0, 2), int)], []
    for i in np.flatnonzero(found.cut).tolist():
        shared = _intersect(found.windows, found.windows[i])
        own, other = _area(_intersect(shared, found.boxes[i])), _area(_intersect(shared, found.boxes))
        both = _area(_intersect(_intersect(shared, found.boxes[i]), found.boxes))
        neighbors = (found.labels == found.labels[i]) & (found.windows != found.windows[i]).any(1) & (both > 0)
        if (neighbors & ~found.cut & (both >= SAME * own)).any():
            continue
        rest.append(i)
        linked = np.flatnonzero(neighbors & found.cut & (both >= SAME * np.maximum(own, other)))
        pairs.append(np.stack([np.full_like(linked, i), linked], 1))
    first, second = np.concatenate(pairs).T
    count = len(found.labels)
    graph = coo_array((np.ones(len(first), bool), (first, second)), (count, count))
    members = connected_components(graph, directed=False)[1][rest]
    for number in np.unique(members):
        yield np.array(rest)[members == number]


def _united_mask(found: _TileDetections, group: np.ndarray, height: int, width: int) -> dict[str, Any]:
    """Return the union of the masks of a group, at the size of the image."""
    assert found.masks is not None
    windows = found.windows[group]
    (left, top), (right, bottom) = windows[:, :2].min(0), windows[:, 2:].max(0)
    union = np.zeros((bottom - top, right - left), bool)
    for i, (x1, y1, x2, y2) in zip(group, windows, strict=True):
        union[y1 - top : y2 - top, x1 - left : x2 - left] |= decode_mask(found.masks[i], y2 - y1, x2 - x1)
    return encode_part(union, int(left), int(top), height, width)


def _intersect(boxes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the intersections of boxes (D, 4) with another, or with D others."""
    return np.concatenate([np.maximum(boxes[:, :2], other[..., :2]), np.minimum(boxes[:, 2:], other[..., 2:])], axis=1)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(1)
