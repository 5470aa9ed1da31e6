"""Cut the images of a set into tiles for training."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from transxnet.data.datasets.detection_dataset import DetectionSet, Segmentations, Target
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.reading.masks import crop_segmentation
from transxnet.data.reading.packed_strings import PackedStrings
from transxnet.data.tiling import Tiling, Window

MIN_VISIBLE = 0.1
"""Smallest fraction of a box inside a tile at which the tile has the object; the default of SAHI's slicing."""


def cut_objects(images: DetectionSet, tiling: Tiling) -> DetectionSet:
    """Return the tiles of the images, with the objects that are visible in them.

    Boxes are clipped to the tile. An object of which less than ``MIN_VISIBLE`` is inside is not one of the tile's.
    """
    sources, windows = _grid(images.own_sizes.tolist(), tiling)
    stored, objects = images.indices[sources], images.objects
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    segmentations: list[Any] = []
    for image, window in zip(stored.tolist(), windows.tolist(), strict=True):
        own = np.arange(images.first[image], images.first[image + 1])
        boxes, share = _clip(objects.boxes[own], window)
        kept = share >= MIN_VISIBLE
        parts.append((own[kept], boxes[kept], share[kept]))
        if objects.segmentations is not None:
            height, width = images.sizes[image].tolist()
            segmentations += [crop_segmentation(objects.segmentations[i], window, height, width) for i in own[kept]]
    numbers, boxes, shares = (np.concatenate(column) for column in zip(*parts, strict=True))
    cut = replace(
        objects,
        boxes=boxes.astype(np.float32),
        labels=objects.labels[numbers],
        areas=(objects.areas[numbers] * shares).astype(np.float32),
        crowd=objects.crowd[numbers],
        ids=objects.ids[numbers],
        segmentations=None if objects.segmentations is None else Segmentations(segmentations),
    )
    return replace(
        images,
        **_tile_fields(images, stored, windows),
        sizes=np.stack([windows[:, 3] - windows[:, 1], windows[:, 2] - windows[:, 0]], 1),
        image_ids=images.image_ids[stored],
        objects=cut,
        first=np.cumsum([0, *(len(part) for part, _, _ in parts)]),
    )


def cut_label_maps(images: SegmentationSet, tiling: Tiling) -> SegmentationSet:
    """Return the tiles of the images and their label maps."""
    files = images.storage
    assert isinstance(files, FileImages)
    sources, windows = _grid((files.size(i, full=False) for i in images.indices), tiling)
    stored = images.indices[sources]
    maps = PackedStrings(images.map_paths[i] for i in stored)
    return replace(images, **_tile_fields(images, stored, windows), map_paths=maps)


def crop_target(target: Target, window: Window) -> Target:
    """Return the objects of a target that are visible in a tile, as :func:`cut_objects` does."""
    left, top, right, bottom = window
    clipped, share = _clip(target["boxes"].as_subclass(torch.Tensor).cpu().numpy(), window)
    kept = torch.from_numpy(share >= MIN_VISIBLE)
    boxes = torch.from_numpy(clipped).to(target["boxes"].device)[kept]
    cut = {"boxes": boxes, **{name: target[name][kept] for name in ("labels", "iscrowd")}}
    if "masks" in target:
        cut["masks"] = target["masks"][kept][:, top:bottom, left:right]
    return cut


def _grid(sizes: Iterable[tuple[int, int]], tiling: Tiling) -> tuple[np.ndarray, np.ndarray]:
    """Return the image (T,) and the window (T, 4) of each tile, for images of these heights and widths."""
    pairs = [(i, window) for i, size in enumerate(sizes) for window in tiling.windows(*size)]
    sources, windows = zip(*pairs, strict=True)
    return np.array(sources), np.array(windows)


def _tile_fields(images: DetectionSet | SegmentationSet, stored: np.ndarray, windows: np.ndarray) -> dict[str, Any]:
    """Return the fields of a collection of tiles; ``stored`` are the tiles' images in the storage."""
    files = images.storage
    assert isinstance(files, FileImages)
    return {
        "storage": replace(files, paths=PackedStrings(files.paths[i] for i in stored)),
        "names": PackedStrings(images.names[i] for i in stored),
        "indices": np.arange(len(stored)),
        "groups": None if images.groups is None else images.groups[stored],
        "windows": windows,
    }


def _clip(boxes: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (N, 4) clipped to a window, in its pixels, and the fraction of each that is inside."""
    left, top, right, bottom = window
    limits = np.array([left, top, left, top], np.float32), np.array([right, bottom, right, bottom], np.float32)
    clipped = boxes.clip(*limits)
    areas = [(b[:, 2:] - b[:, :2]).prod(1) for b in (clipped, boxes)]
    return clipped - limits[0], areas[0] / areas[1]
