import numpy as np
import pytest

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages


def test_subset_of_a_subset_keeps_images_and_labels_aligned(files):
    weighted = ClassificationSet(files.storage, files.names, files.class_names, files.labels, np.arange(10) / 10)
    part = weighted.subset(np.array([9, 4, 5, 0])).subset(np.array([2, 0]))
    assert len(part) == 2
    assert part.own_names == [part.name(0), part.name(1)] == ["5.png", "9.png"]
    assert part.own_labels.tolist() == [1, 1]
    assert part.own_weights.tolist() == [0.5, 0.9]
    assert [np.asarray(part.image(i))[0, 0, 0] for i in range(2)] == [5, 9]
    assert len(weighted) == 10


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 4, 6, 3)])
def test_images_in_arrays_are_rgb(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images = ArrayImages(array)
    assert len(images) == 2
    shown = np.asarray(images[1])
    assert shown.shape == (4, 6, 3)
    assert (shown == (array[1] if array.ndim == 4 else array[1][..., None])).all()
