"""Map-style data sets in Python."""

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.data.formats.map_dataset import read_map_dataset
from transxnet.data.open_data import open_dataset
from transxnet.utils.errors import UserError


class Pairs:
    """Ten gray images; their label is their index modulo 2."""

    read = 0

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.read += 1
        return Image.new("L", (4, 4), 20 * index), index % 2


class Named(Pairs):
    classes = ("cat", "dog")
    targets = torch.arange(10) % 2


def test_images_and_labels_are_those_of_the_items():
    images = read_map_dataset(Pairs())
    assert (images.class_names, images.own_labels.tolist()) == (["0", "1"], [0, 1] * 5)
    assert images.subset(np.array([3])).image(0).getpixel((0, 0)) == (60, 60, 60)


def test_targets_and_classes_are_used_without_reading_items():
    dataset = Named()
    images = read_map_dataset(dataset)
    assert (images.class_names, images.own_labels.tolist(), dataset.read) == (["cat", "dog"], [0, 1] * 5, 1)


def test_data_set_is_split_and_a_pair_is_not():
    options = dict(seed=0, limit=None, stored_split=None)
    source = open_dataset(Named(), val_fraction=0.2, **options)
    assert (len(source.train), len(source.val), source.split_made) == (8, 2, True)
    source = open_dataset((Named(), Pairs()), val_fraction=0.2, **options)
    assert (len(source.train), len(source.val), source.split_made) == (10, 10, False)
    assert source.val.class_names == ["cat", "dog"]
    source = open_dataset((Named(), Pairs()), val_fraction=0.2, **{**options, "limit": 3})
    assert (len(source.train), len(source.val)) == (3, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(__getitem__=lambda self, i: (torch.zeros(3, 4, 4), 0)), "images of type Tensor.* as train_transform"),
        (dict(__getitem__=lambda self, i: (Image.new("L", (4, 4)), 0.5)), "has labels such as .*0.5"),
        (dict(__getitem__=lambda self, i: Image.new("L", (4, 4))), "cannot read the data set Wrong"),
        (dict(__len__=None), "cannot read the data set Wrong.*Accepted: a map-style data set"),
        (dict(classes=["cat"]), "labels up to 1"),
    ],
)
def test_other_items_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        read_map_dataset(type("Wrong", (Pairs,), changes)())


def test_validation_classes_must_be_those_of_training():
    with pytest.raises(UserError, match=r"other classes than the training images: cat, dog"):
        read_map_dataset(Named(), ["dog", "cat"])
