"""Detections of tiles: objects on tile borders are found once, complete."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from transxnet.data.reading.masks import decode_mask
from transxnet.data.tiling import Tiling
from transxnet.evaluation.tiled_detection import detect_tiles

MARGIN = 4
"""Pixels between any two objects."""


def detect(image: Tensor) -> dict[str, Tensor]:
    """Detect every connected region as an object; its class is the region's value, its score its size."""
    regions, count = ndimage.label(image[0].numpy() > 0)
    spans = ndimage.find_objects(regions)
    masks = torch.from_numpy(np.stack([regions == i + 1 for i in range(count)]) if count else np.zeros((0, 1, 1), bool))
    return {
        "boxes": torch.tensor([[x.start, y.start, x.stop, y.stop] for y, x in spans]).reshape(-1, 4).float(),
        "labels": torch.tensor([int(image[0, y, x].max()) for y, x in spans], dtype=torch.int64),
        "scores": masks.flatten(1).sum(1).float() / 10**6,
        "masks": masks.reshape(count, *image.shape[1:]),
    }


def scene(seed: int, height: int = 300, width: int = 260, longest: int = 60) -> Tensor:
    """Rectangles of two classes that do not touch."""
    dice, pixels = np.random.default_rng(seed), np.zeros((height, width), np.uint8)
    for _ in range(60):
        h, w = dice.integers(3, longest, 2)
        y, x = int(dice.integers(0, height - h)), int(dice.integers(0, width - w))
        around = pixels[max(0, y - MARGIN) : y + h + MARGIN, max(0, x - MARGIN) : x + w + MARGIN]
        if not around.any():
            pixels[y : y + h, x : x + w] = dice.integers(1, 3)
    return torch.from_numpy(pixels)[None].expand(3, -1, -1)


def rows(boxes, labels, scores) -> list[tuple[float, ...]]:
    return sorted((*box, label, score) for box, label, score in zip(boxes.tolist(), labels, scores, strict=True))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("tile", "overlap"), [(128, 0.5), (64, 0.25), (40, 0.5)])
def test_objects_on_borders_are_found_once(seed, tile, overlap):
    """The boxes, classes and masks are those of the whole image, for objects smaller and larger than a tile."""
    image = scene(seed, longest=90)
    whole = detect(image)
    found = detect_tiles(detect, image, Tiling(tile, overlap))
    assert len(found.scores) == len(whole["scores"]) > 8
    assert found.boxes.dtype == np.float32 and found.labels.dtype == np.int64
    assert (np.diff(found.scores) <= 0).all()
    places = {tuple(box): i for i, box in enumerate(whole["boxes"].tolist())}
    for box, label, mask in zip(found.boxes.tolist(), found.labels, found.masks, strict=True):
        i = places[tuple(box)]
        assert label == whole["labels"][i]
        assert np.array_equal(decode_mask(mask, *image.shape[1:]), whole["masks"][i].numpy())


def test_inaccurate_parts_are_dropped_for_the_complete_object():
    """The part of an object at a border is detected a few pixels too small, as by a network."""
    image = torch.zeros(3, 64, 112)
    image[:, 20:40, 50:90] = 1  # cut by the first tile's right border, at 64; complete in the second, from 48

    def inexact(tile: Tensor) -> dict[str, Tensor]:
        found = {name: value for name, value in detect(tile).items() if name != "masks"}
        cut = found["boxes"][:, 2] == 64
        found["boxes"][cut] += torch.tensor([3.0, 3, 0, -3])
        return found

    found = detect_tiles(inexact, image, Tiling(64, 0.25))
    assert found.boxes.tolist() == [[50, 20, 90, 40]]
    assert found.masks is None


def test_small_object_in_front_of_a_cut_one_is_kept():
    image = torch.zeros(3, 64, 200)

    def both(tile: Tensor) -> dict[str, Tensor]:
        """A bar across the image, and an object of its class in front of it, complete in one tile."""
        width = tile.shape[2]
        boxes = [[0.0, 10, width, 50]]
        if tile[0].any():
            _, x = torch.nonzero(tile[0])[0].tolist()
            boxes.append([x - 4.0, 28, x + 4, 36])
        return {
            "boxes": torch.tensor(boxes),
            "labels": torch.ones(len(boxes), dtype=torch.int64),
            "scores": torch.full((len(boxes),), 0.9),
        }

    image[:, 32, 59] = 1  # in the part that the first two tiles share, 48 to 64 and more
    found = detect_tiles(both, image, Tiling(64, 0.25))
    assert sorted(found.boxes.tolist()) == [[0, 10, 200, 50], [55, 28, 63, 36]]


def test_image_without_objects_has_no_detections():
    found = detect_tiles(detect, torch.zeros(3, 100, 100), Tiling(64))
    assert found.boxes.shape == (0, 4) and found.masks == [] and len(found.labels) == 0
