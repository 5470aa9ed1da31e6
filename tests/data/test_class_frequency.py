"""Counts of classes, and rare classes."""

import numpy as np

from tests.helpers.dense_data import write_coco_squares
from transxnet.data.class_frequency import count_classes, rare_classes
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.open_data import open_data


def labeled(labels: np.ndarray, **options) -> ClassificationSet:
    storage, names = ArrayImages(np.zeros((len(labels), 4, 4), np.uint8)), [str(i) for i in range(len(labels))]
    return ClassificationSet(storage, names, ["a", "b", "c"], labels, **options)


def test_images_and_objects_of_each_class_are_counted(tmp_path, maps):
    assert count_classes(labeled(np.array([0, 2, 2, 2]))).tolist() == [1, 0, 3]
    several = labeled(np.array([[1, 0, np.nan], [1, 1, 0]], np.float32))
    assert several.targets == "multilabel"
    assert count_classes(several).tolist() == [2, 1, 0]
    objects = open_data(str(write_coco_squares(tmp_path / "squares", 3)), val_fraction=0).train
    assert count_classes(objects).tolist() == [3, 2]  # without the crowd
    assert count_classes(open_data(str(maps)).train) is None


def test_classes_are_rare_below_a_tenth():
    assert rare_classes([100, 10, 9, 0]) == [2]
    assert rare_classes([]) == rare_classes([0, 0]) == []
