import numpy as np
import torch

from transxnet.data.datasets.classification_dataset import ClassificationDataset


def shade(image) -> torch.Tensor:
    return torch.tensor(float(np.asarray(image)[0, 0, 0]))


def test_dataset_without_weights_returns_none(files):
    assert files.subset(np.array([1])).own_weights is None


def test_an_item_is_an_image_its_label_and_its_position(files):
    dataset = ClassificationDataset(files.subset(np.array([3, 8])), shade)
    assert len(dataset) == 2
    assert dataset[0] == (3, 1, 0)
    assert dataset[1] == (8, 0, 1)
