"""Images of several sets under consecutive numbers."""

import numpy as np

from transxnet.checking.all_images import AllImages
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages


def labeled():
    array = np.arange(5, dtype=np.uint8)[:, None, None] + np.zeros((5, 4, 4), np.uint8)
    return ClassificationSet(ArrayImages(array), list("vwxyz"), ["a", "b"], np.array([0, 1, 0, 1, 1]))


def parts_of(images):
    return {"train": images.subset(np.array([4, 0, 2])), "val": images.subset(np.array([1]))}


def test_numbers_lead_to_sets_names_labels_and_images():
    images = AllImages(parts_of(labeled()))
    assert len(images) == 4
    assert images.set_names(range(4)) == ["train", "train", "train", "val"]
    assert [images.name(n) for n in range(4)] == ["z", "v", "x", "w"]
    assert images.labels(range(4)) == ["b", "a", "a", "b"]
    assert images.image(3).getpixel((0, 0)) == (1, 1, 1)


def test_labels_of_objects_are_their_counts(bad_boxes):
    assert bad_boxes.all_images.label(0) == "cat (2)"
