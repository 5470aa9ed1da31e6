import numpy as np
import pytest

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.split import read_split
from transxnet.studies.folds import FOLDS_FILE, make_folds, make_splits, read_folds, split_path, write_folds
from transxnet.utils.errors import UserError

NAMES = ["a", "b", "c"]


def make_set(labels, groups=None, classes=NAMES):
    labels = np.asarray(labels)
    names = [f"{i},\n.png" for i in range(len(labels))]
    storage = ArrayImages(np.zeros((len(labels), 2, 2), np.uint8))
    return ClassificationSet(storage, names, list(classes), labels, groups=groups)


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_are_read_as_they_were_written(tmp_path, grouped):
    images = make_set(np.arange(30) % 3, 7 * (np.arange(30) // 2) if grouped else None)
    folds = make_folds(images, 4, seed=1)
    splits = make_splits(images, folds, 0.25, seed=1)
    write_folds(tmp_path, folds, splits, NAMES)
    read = read_folds(tmp_path, NAMES)
    assert read.names == folds.names and read.count == 4
    assert (read.fold == folds.fold).all() and (read.labels == folds.labels).all()
    assert (read.groups is not None) == grouped and (read.units == folds.units).all()
    for number in range(1, 5):
        parts = read_split(split_path(tmp_path, number), read.names)
        assert parts["test"].tolist() == folds.outer(number).tolist()
        assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(30))


def test_folds_depend_on_the_seed_only():
    images = make_set(np.arange(60) % 3)
    first, again, other = (make_folds(images, 5, seed).fold for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_part_without_one_of_two_classes_is_refused():
    images = make_set([0] * 20 + [1] * 2, classes=["a", "b"])
    with pytest.raises(UserError, match=r"part of fold \d has no image of class 'b'. Use fewer --folds"):
        make_splits(images, make_folds(images, 2, 0), 0.2, 0)


@pytest.mark.parametrize(
    "text", ["", "name\na\n", "name,label,group,fold\na,x,,1\n", "name,label,group,fold\na,b,,x\n"]
)
def test_damaged_folds_are_an_error(tmp_path, text):
    (tmp_path / FOLDS_FILE).write_text(text)
    with pytest.raises(UserError, match=r"folds\.csv is damaged or not part of a study"):
        read_folds(tmp_path, NAMES)
