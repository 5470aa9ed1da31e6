import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from tests.helpers.annotated import write_map
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.datasets.segmentation_dataset import (
    IGNORE,
    SegmentationDataset,
    SegmentationSet,
    collate_pairs,
    collate_sizes,
)
from transxnet.data.reading.image_decoding import UnreadableImage

VALUES = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)


@pytest.fixture
def images(tmp_path) -> SegmentationSet:
    """Three images of two sizes; the values of the label maps are shifted by one."""
    for i, values in enumerate((VALUES, VALUES[:, :2], VALUES[:, 1:])):
        write_map(tmp_path / f"{i}.png", values, image_path=tmp_path / f"{i}.jpg")
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[1:5] = range(4)
    paths = [str(tmp_path / f"{i}.jpg") for i in range(3)]
    maps = [str(tmp_path / f"{i}.png") for i in range(3)]
    return SegmentationSet(FileImages(paths), ["0.jpg", "1.jpg", "2.jpg"], list("abcd"), maps, lookup)


def test_values_become_labels(images):
    assert images.labels(0).tolist() == [[255, 0, 1], [2, 3, 255]]
    part = images.subset(np.array([2, 1])).subset(np.array([1]))
    assert part.own_names == ["1.jpg"] == [part.name(0)]
    assert part.labels(0).tolist() == [[255, 0], [2, 3]]
    assert part.image(0).size == (2, 2)


def test_a_models_classes(images):
    other = images.with_classes(list("dcbae"), [3, 2, 1, 0])
    assert other.labels(0).tolist() == [[255, 3, 2], [1, 0, 255]]
    assert other.class_names == list("dcbae")


def test_items_are_images_labels_and_indices(images):
    items = [SegmentationDataset(images)[i] for i in range(3)]
    tensors, labels, positions = collate_sizes(items)
    assert isinstance(tensors[0], tv_tensors.Image)
    assert isinstance(labels[0], tv_tensors.Mask)
    assert [tuple(p.shape) for p in tensors] == [(3, 2, 3), (3, 2, 2), (3, 2, 2)]
    assert [tuple(m.shape) for m in labels] == [(2, 3), (2, 2), (2, 2)]
    assert labels[0].dtype == torch.uint8
    assert positions.tolist() == [0, 1, 2]
    tensors, labels, positions = collate_pairs(items[1:])
    assert (tensors.shape, labels.shape, positions.tolist()) == ((2, 3, 2, 2), (2, 2, 2), [1, 2])


@pytest.mark.parametrize("spoilt", ["1.jpg", "1.png"])
def test_pair_with_an_unreadable_file_is_replaced(spoilt, images, tmp_path, caplog):
    (tmp_path / spoilt).write_text("not an image")
    assert SegmentationDataset(images)[1][2] == 2
    assert caplog.messages[0].startswith("cannot read 1.jpg, using the next image instead")


def test_map_with_changed_values_is_unreadable(images, tmp_path):
    write_map(tmp_path / "0.png", VALUES.astype(np.uint16) * 100)
    with pytest.raises(UnreadableImage, match="values from 0 to 25500"):
        images.labels(0)
