"""Training tiles have the pixels, boxes, masks and labels of their part of the image."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import pil_to_tensor

from tests.helpers.channel_data import CHANNELS, write_band_boxes
from tests.helpers.dense_data import write_coco_squares
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.open_data import open_data
from transxnet.data.tiling import Tiling
from transxnet.data.training_tiles import MIN_VISIBLE, crop_target, cut_label_maps, cut_objects

TILING = Tiling(32, 0.25)


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> DetectionSet:
    """Images of 56 to 72 pixels with two objects each, with masks, and crowds; not all of the storage's images."""
    data = write_coco_squares(tmp_path_factory.mktemp("tiles") / "squares", 10)
    return open_data(str(data), masks=True, val_fraction=0.3).train


@pytest.fixture(scope="module")
def tiles(objects) -> DetectionSet:
    return cut_objects(objects, TILING)


def grid(images) -> list[tuple[int, tuple[int, int, int, int]]]:
    return [(i, window) for i in range(len(images)) for window in TILING.windows(*images.image(i).size[::-1])]


def test_tiles_are_parts_of_their_images(objects, tiles):
    assert len(tiles) == len(grid(objects)) >= 6 * len(objects)
    for number, (i, window) in enumerate(grid(objects)):
        assert np.array_equal(tiles.image(number), objects.image(i).crop(window))
        assert tiles.name(number) == objects.name(i)
        assert tiles.own_sizes[number].tolist() == [32, 32]
    assert tiles.class_names == objects.class_names


def test_objects_are_clipped_to_tiles(objects, tiles):
    dropped = 0
    for number, (i, (left, top, right, bottom)) in enumerate(grid(objects)):
        whole, part = objects.target(i, masks=True), tiles.target(number, masks=True)
        kept = []
        for k, box in enumerate(whole["boxes"].tolist()):
            x1, y1, x2, y2 = max(box[0], left), max(box[1], top), min(box[2], right), min(box[3], bottom)
            share = max(0, x2 - x1) * max(0, y2 - y1) / ((box[2] - box[0]) * (box[3] - box[1]))
            if share >= MIN_VISIBLE:
                at = len(kept)
                kept.append(k)
                assert part["boxes"][at].tolist() == [x1 - left, y1 - top, x2 - left, y2 - top]
                assert part["area"][at] == pytest.approx(share * whole["area"][k].item())
            dropped += 0 < share < MIN_VISIBLE
        assert part["labels"].tolist() == whole["labels"][kept].tolist()
        assert part["iscrowd"].tolist() == whole["iscrowd"][kept].tolist()
        assert torch.equal(part["masks"], whole["masks"][kept][:, top:bottom, left:right])
    assert dropped


def test_cropped_targets_are_those_of_training_tiles(objects, tiles):
    for number, (i, window) in enumerate(grid(objects)):
        part, expected = crop_target(objects.target(i, masks=True), window), tiles.target(number, masks=True)
        for name, value in part.items():
            assert torch.equal(value.as_subclass(torch.Tensor), expected[name].as_subclass(torch.Tensor))


def test_label_maps_are_cut_like_their_images(maps):
    images = open_data(str(maps)).train
    tiles = cut_label_maps(images.subset(np.array([4, 1])), TILING)
    pairs = grid(images.subset(np.array([4, 1])))
    assert len(tiles) == len(pairs)
    for number, (i, (left, top, right, bottom)) in enumerate(pairs):
        source = (4, 1)[i]
        assert np.array_equal(tiles.labels(number), images.labels(source)[top:bottom, left:right])
        whole = pil_to_tensor(images.image(source))
        assert torch.equal(pil_to_tensor(tiles.image(number)), whole[:, top:bottom, left:right])


def test_tiles_have_subsets(tiles):
    part = tiles.subset(np.array([5, 2]))
    assert np.array_equal(part.image(1), tiles.image(2))
    assert torch.equal(part.target(0)["boxes"], tiles.target(5)["boxes"])


def test_tiles_of_channels_keep_their_values(tmp_path):
    images = open_data(str(write_band_boxes(tmp_path, 2) / "coco"), channels=CHANNELS, val_fraction=0).train
    tiles = cut_objects(images, TILING)
    for number, (i, (left, top, right, bottom)) in enumerate(grid(images)):
        assert torch.equal(tiles.pixels(number), images.pixels(i)[:, top:bottom, left:right])
