import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from tests.helpers.annotated import box, image, write_coco
from transxnet.data.datasets.detection_dataset import DetectionDataset, DetectionSet, Segmentations, collate_detection
from transxnet.data.formats.coco import read_coco
from transxnet.data.formats.coco_folders import find_coco
from transxnet.data.formats.findings import Findings

SQUARE = [[4, 5, 14, 5, 14, 13, 4, 13]]


@pytest.fixture
def images(tmp_path) -> DetectionSet:
    """Three images: two objects and a crowd, no object, one object."""
    crowd = {"size": [30, 40], "counts": [0, 60, 1140]}
    annotations = [
        box(1, 1, category=7, segmentation=SQUARE),
        box(2, 1, (0, 0, 2, 30), category=3, segmentation=crowd, iscrowd=1, area=60),
        box(3, 1, category=1, segmentation=SQUARE),
        box(4, 3, category=1, segmentation=SQUARE),
    ]
    entries = [image(1), image(2, 20, 30), image(3)]
    write_coco(tmp_path / "annotations.json", entries, annotations, image_folder=tmp_path)
    return read_coco(find_coco(tmp_path)[0], Findings(), masks=True)


def test_segmentations_round_trip():
    entries = [SQUARE, {"size": [3, 4], "counts": "0P1"}, [], [[0.1, 1 / 3]]]
    packed = Segmentations(entries)
    assert len(packed) == 4
    assert list(packed) == entries
    assert len(Segmentations([])) == 0


def test_a_target_has_an_entry_for_each_object(images):
    target = images.target(0, masks=True)
    assert isinstance(target["boxes"], tv_tensors.BoundingBoxes)
    assert target["boxes"].canvas_size == (30, 40)
    assert target["boxes"].format == tv_tensors.BoundingBoxFormat.XYXY
    assert isinstance(target["masks"], tv_tensors.Mask)
    assert target["masks"].shape == (3, 30, 40)
    assert target["masks"].dtype == torch.uint8
    assert target["masks"].flatten(1).sum(1).tolist() == [80, 60, 80]
    assert target["labels"].tolist() == [3, 2, 1]
    assert target["iscrowd"].tolist() == [0, 1, 0]
    assert (target["boxes"].dtype, target["area"].dtype) == (torch.float32, torch.float32)
    assert (target["labels"].dtype, target["iscrowd"].dtype) == (torch.int64, torch.int64)


def test_crowds_are_separate(images):
    target = images.target(0, masks=True, crowds=False)
    assert target["labels"].tolist() == [3, 1]
    assert len(target["masks"]) == len(target["boxes"]) == len(target["area"]) == 2
    assert [labels.tolist() for labels in images.own_labels] == [[3, 1], [], [1]]


def test_an_image_without_objects_has_empty_entries(images):
    target = images.target(1, masks=True)
    assert {name: tuple(target[name].shape) for name in ("boxes", "labels", "area", "iscrowd", "masks")} == {
        "boxes": (0, 4), "labels": (0,), "area": (0,), "iscrowd": (0,), "masks": (0, 30, 20),
    }  # fmt: skip
    assert target["image_id"] == 2


def test_subset_of_a_subset_keeps_images_and_objects_aligned(images):
    part = images.subset(np.array([2, 0])).subset(np.array([1]))
    assert part.own_names == ["1.png"]
    assert part.image_id(0) == 1
    assert part.target(0)["labels"].tolist() == [3, 2, 1]
    assert part.own_sizes.tolist() == [[30, 40]]
    assert images.with_objects().own_names == ["1.png", "3.png"]
    assert images.subset(np.array([1])).with_objects().own_names == []


def test_classes_of_a_model_keep_the_ids_of_the_file(images):
    other = images.with_classes(["cat", "bee", "ant", "dog"], [2, 3, 0])
    assert other.class_names == ["cat", "bee", "ant", "dog"]
    assert other.category_ids == [7, None, 1, 3]
    assert other.target(0)["labels"].tolist() == [1, 4, 3]
    assert images.target(0)["labels"].tolist() == [3, 2, 1]


def test_items_are_images_and_targets_of_their_own_size(images):
    items = [DetectionDataset(images, masks=True, crowds=False)[i] for i in range(3)]
    tensors, targets = collate_detection(items)
    assert [tuple(tensor.shape) for tensor in tensors] == [(3, 30, 40), (3, 30, 20), (3, 30, 40)]
    assert all(isinstance(tensor, tv_tensors.Image) and tensor.dtype == torch.uint8 for tensor in tensors)
    assert [len(target["masks"]) for target in targets] == [2, 0, 1]
    assert "masks" not in DetectionDataset(images)[0][1]
    assert len(DetectionDataset(images)[0][1]["boxes"]) == 3


def test_randomness_follows_from_the_seed(images):
    dataset = DetectionDataset(images, lambda image, target: (image, {"drawn": torch.rand(1).item()}))
    assert dataset[0, 5][1] == dataset[0, 5][1] == dataset[2, 5][1] != dataset[0, 6][1]


def test_an_unreadable_image_is_replaced_with_its_target(images, caplog):
    with open(images.path(1), "w") as file:
        file.write("not an image")
    assert DetectionDataset(images)[1][1]["image_id"] == 3
    assert caplog.messages == [
        "cannot read 2.png, using the next image instead: not an image, or an unsupported format"
    ]
