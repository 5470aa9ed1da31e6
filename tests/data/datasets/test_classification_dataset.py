from dataclasses import replace

import numpy as np
import torch

from transxnet.data.datasets.classification_dataset import ClassificationDataset, ClassificationSet


def shade(image) -> torch.Tensor:
    return torch.tensor(float(np.asarray(image)[0, 0, 0]))


def test_dataset_without_weights_returns_none(files):
    assert files.subset(np.array([1])).own_weights is None


def test_an_item_is_an_image_its_label_and_its_position(files):
    dataset = ClassificationDataset(files.subset(np.array([3, 8])), shade)
    assert len(dataset) == 2
    assert dataset[0] == (3, 1, 0)
    assert dataset[1] == (8, 0, 1)


def labeled(files, labels) -> ClassificationSet:
    return replace(files, labels=labels, class_names=["a", "b"][: labels.shape[-1] if labels.ndim == 2 else 2])


def test_labels_determine_targets_and_items(files):
    several = np.full((len(files), 2), np.nan, np.float32)
    several[3] = [1, 0]
    item = ClassificationDataset(labeled(files, several), shade)[3][1]
    assert item.dtype == torch.float32
    assert item.tolist() == [1, 0]
    number = np.arange(len(files), dtype=np.float32) / 2
    item = ClassificationDataset(labeled(files, number), shade)[3][1]
    assert (item.dtype, item.shape, item.item()) == (torch.float32, (), 1.5)
    assert [labeled(files, labels).targets for labels in (several, number)] == ["multilabel", "regression"]
    assert files.targets == "classes"


def test_multilabel_classes_are_aligned_and_others_unknown(files):
    several = np.zeros((len(files), 2), np.float32)
    several[0] = [1, 0]
    images = labeled(files, several)
    assert images.present_classes.tolist() == [0]
    aligned = images.with_classes(["b", "c", "a"], [2, 0])
    np.testing.assert_array_equal(aligned.labels[0], [0, np.nan, 1])
    assert aligned.present_classes.tolist() == [2]
