import os
from collections import Counter

import numpy as np
import pytest

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.split import (
    describe_groups,
    divide_into_folds,
    draw_fraction,
    find_groups,
    group_images,
    grouped_split,
    read_split,
    split_images,
    split_names,
    stored_test_set,
    stratified_split,
    write_split,
)
from transxnet.utils.errors import UserError


def check_halves(strata, train, val):
    assert sorted([*train, *val]) == list(range(len(strata)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(val) > 0).all()


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.25, 0.5, 0.9])
def test_every_stratum_contributes_its_share(fraction):
    strata = np.repeat(["a", "b", "c"], [400, 100, 20])
    np.random.default_rng(0).shuffle(strata)
    train, val = stratified_split(strata, fraction, seed=0)
    check_halves(strata, train, val)
    assert Counter(strata[val]) == {"a": 400 * fraction, "b": 100 * fraction, "c": 20 * fraction}


@pytest.mark.parametrize(("classes", "size"), [(100, 6), (100, 5), (7, 30), (30, 7), (8, 101)])
def test_rounding_errors_do_not_accumulate(classes, size):
    strata = np.repeat(np.arange(classes), size)
    _, val = stratified_split(strata, 0.25, seed=0)
    assert len(val) == round(classes * size / 4)
    counts = np.bincount(strata[val], minlength=classes)
    assert counts.max() - counts.min() <= 1


def test_split_depends_on_the_seed():
    strata = np.repeat([0, 1], 50)
    first, again, other = (stratified_split(strata, 0.2, seed)[1] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_small_strata_are_in_both_parts():
    strata = np.repeat([0, 1, 2], [1, 2, 3])
    for fraction in (0.01, 0.5, 0.99):
        train, val = stratified_split(strata, fraction, seed=0)
        check_halves(strata, train, val)
        assert 0 not in strata[val]
        assert {1, 2} <= set(strata[val])
        assert {0, 1, 2} <= set(strata[train])


def test_strata_of_one_image_stay_in_the_training_set():
    train, val = stratified_split(np.arange(5), 0.5, seed=0)
    assert len(val) == 0
    assert len(train) == 5


def test_strata_of_two_properties_are_balanced_over_both():
    strata = np.array([(kind, p) for kind in ("mono", "poly") for p in ("0.0", "1.0") for _ in range(40)])
    _, val = stratified_split(strata, 0.25, seed=3)
    assert set(Counter(map(tuple, strata[val])).values()) == {10}
    assert len(Counter(map(tuple, strata[val]))) == 4


def test_images_are_split_by_class_or_as_stored(tmp_path):
    names, labels = [f"{i}" for i in range(20)], np.repeat([0, 1], 10)
    images = ClassificationSet(ArrayImages(np.zeros((20, 2, 2), np.uint8)), names, ["a", "b"], labels)
    train, val = split_images(images, 0.3, seed=0)
    assert sorted(train.own_names + val.own_names) == sorted(names)
    assert val.own_labels.tolist() == [0] * 3 + [1] * 3
    by_parity = split_images(images, 0.5, seed=0, strata=np.arange(20) % 2)[1]
    assert Counter(by_parity.indices % 2) == {0: 5, 1: 5}
    write_split(tmp_path / "split.csv", {"train": names[5:], "val": names[:5]})
    assert split_images(images, 0.3, 0, tmp_path / "split.csv")[1].own_names == names[:5]


def test_fraction_is_drawn_by_class_and_seed():
    names, labels = [f"{i}" for i in range(40)], np.repeat([0, 1], [30, 10])
    images = ClassificationSet(ArrayImages(np.zeros((40, 2, 2), np.uint8)), names, ["a", "b"], labels)
    drawn = draw_fraction(images, 0.2, seed=0)
    assert drawn.own_labels.tolist() == [0] * 6 + [1] * 2
    assert draw_fraction(images, 0.2, seed=0).own_names == drawn.own_names
    assert draw_fraction(images, 0.2, seed=1).own_names != drawn.own_names
    assert draw_fraction(images, 0.01, seed=0).present_classes.tolist() == [0, 1]
    with pytest.raises(UserError, match="--train-fraction needs images in files"):
        draw_fraction(Stream("tfds/pets", "train", 40, ["a", "b"]), 0.2, seed=0)


ODD = ["plain.png", "with,comma.png", 'with"quote.png', "line\nbreak.png", "return\rhere.png", " spaces ", "ü/ö.png"]


def test_a_split_is_read_as_it_was_written(tmp_path):
    names = [*ODD, os.fsdecode(b"not \xff\xfe text.png")]
    path = tmp_path / "split.csv"
    write_split(path, {"train": names[::2], "val": names[1::2]})
    parts = read_split(path, names)
    assert {part: positions.tolist() for part, positions in parts.items()} == {
        "train": list(range(0, len(names), 2)),
        "val": list(range(1, len(names), 2)),
    }
    assert os.listdir(tmp_path) == ["split.csv"]


def test_a_split_holds_where_images_were_added(tmp_path):
    write_split(tmp_path / "split.csv", {"train": ["a", "c"], "val": ["b"]})
    parts = read_split(tmp_path / "split.csv", ["0", "a", "aa", "b", "c"])
    assert parts["train"].tolist() == [1, 4]
    assert parts["val"].tolist() == [3]


def test_removed_images_are_an_error(tmp_path):
    write_split(tmp_path / "split.csv", {"train": ["a", "b"], "val": ["c"]})
    with pytest.raises(
        UserError, match=r"images of the stored split .*split\.csv are missing: 2, the first is b\. Restore them"
    ):
        read_split(tmp_path / "split.csv", ["a"])


@pytest.mark.parametrize("content", ["file,use\na,train\n", "name,part\na,holdout\n", "name,part\na\n"])
def test_invalid_split_file_is_an_error(tmp_path, content):
    (tmp_path / "split.csv").write_text(content)
    with pytest.raises(UserError, match=r"cannot read the split .*split\.csv: .*Accepted: columns name and part"):
        read_split(tmp_path / "split.csv", ["a"])


def test_an_empty_part_is_read_as_positions(tmp_path):
    write_split(tmp_path / "split.csv", {"train": ["a"], "val": []})
    assert np.arange(1)[read_split(tmp_path / "split.csv", ["a"])["val"]].tolist() == []


def test_names_of_a_stored_split_are_those_of_all_its_sets(tmp_path):
    write_split(tmp_path / "split.csv", {"train": ["a/1.png", "b,2.png"], "val": ["c.png"]})
    assert split_names(tmp_path / "split.csv") == ["a/1.png", "b,2.png", "c.png"]


def grouped(labels, groups, names=None, **more):
    labels = np.asarray(labels)
    storage = ArrayImages(np.zeros((len(labels), 2, 2), np.uint8))
    names = names or [f"{i}.png" for i in range(len(labels))]
    return ClassificationSet(storage, names, ["a", "b", "c"], labels, groups=groups, **more)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_groups_are_not_split_and_classes_keep_their_share(fraction):
    random = np.random.default_rng(0)
    groups = random.integers(0, 100, 1000)
    labels = random.choice(3, 1000, p=[0.7, 0.25, 0.05])
    train, val = grouped_split(labels, groups, fraction, seed=0)
    check_halves(labels, train, val)
    assert not set(groups[train]) & set(groups[val])
    shares = np.bincount(labels[val]) / np.bincount(labels)
    np.testing.assert_allclose(shares, fraction, atol=0.04)


def test_grouped_split_depends_on_the_seed():
    groups = np.repeat(np.arange(20), 3)
    first, again, other = (grouped_split(groups % 2, groups, 0.3, seed)[1] for seed in (1, 1, 2))
    assert (first == again).all()
    assert first.tolist() != other.tolist()


def test_class_of_two_groups_is_in_both_parts():
    labels, groups = [0] * 10 + [1] * 10 + [2] * 3, [0] * 5 + [1] * 5 + [2] * 9 + [3] + [4] * 3
    train, val = grouped_split(np.array(labels), np.array(groups), 0.2, seed=0)
    assert {labels[i] for i in train} == {0, 1, 2}
    assert {labels[i] for i in val} == {0, 1}


def test_images_with_groups_are_split_by_group():
    train, val = split_images(grouped([0, 0, 0, 1, 1, 1] * 4, np.repeat(np.arange(8), 3)), 0.25, 0)
    assert not set(train.own_groups) & set(val.own_groups)
    assert np.bincount(val.own_labels).tolist() == [3, 3, 0][:2]
    with pytest.raises(UserError, match="every class has only one group, so no validation set can be split off"):
        split_images(grouped([0, 0, 1, 1], np.array([0, 0, 1, 1])), 0.25, 0)
    several = np.ones((4, 3), np.float32)
    with pytest.raises(UserError, match="needs at least two groups in total, got 1"):
        split_images(grouped(several, np.zeros(4, int)), 0.25, 0)


def test_groups_are_found_in_names():
    images = grouped([0] * 4, None, ["a/p1_0.png", "a/p1_1.png", "b/p2_0.png", "b/x.png"])
    groups = group_images(images, r"p(\d+)_").groups
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
    assert (group_images(images, r"p\d+").groups == groups).all()
    with pytest.raises(UserError, match=r"'\(' is not a regular expression: missing \).*Correct --group-from"):
        group_images(images, "(")
    with pytest.raises(UserError, match=r"'q' matches no image, such as 'a/p1_0.png'"):
        group_images(images, "q")


def test_groups_are_described_with_a_warning_if_they_contain_a_class():
    names = ["benign/p00_1.png", "benign/p01_1.png", "malignant/p00_2.png", "malignant/x.png"]
    classes = ["benign", "malignant"]
    (note,) = describe_groups(find_groups(names, r"([^/_]+)_[^/]*$"), classes)
    assert note == (
        "2 groups of images (--group-from), such as p00, p01; without a match, each a group of its own: 1 image"
    )
    note, warning = describe_groups(find_groups(names, "^([^_]+)_"), classes)
    assert note.startswith("3 groups of images (--group-from), such as benign/p00, benign/p01, malignant/p00; without")
    assert warning.startswith("warning: the group benign/p00 contains the name of a class, so that images of one")


def test_several_labels_are_stratified_by_the_rarest():
    labels = np.zeros((40, 3), np.float32)
    labels[:, 0], labels[::4, 1], labels[5, 2], labels[7] = 1, 1, np.nan, 0
    _, val = split_images(grouped(labels, None), 0.2, 0)
    assert (val.own_labels[:, 1] == 1).sum() == 2


def test_values_are_stratified_by_tenths():
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    _, val = split_images(grouped(values, None), 0.2, 0)
    assert np.histogram(val.own_labels, np.quantile(values, np.arange(0, 1.1, 0.1)))[0].tolist() == [2] * 10


def test_split_may_have_a_test_set(tmp_path):
    images = grouped([0, 1] * 3, None)
    path = tmp_path / "split.csv"
    write_split(path, {"train": ["0.png", "1.png"], "val": ["2.png"], "test": ["5.png", "3.png"]})
    assert stored_test_set(images, path).own_names == ["3.png", "5.png"]
    train, val = split_images(images, 0.2, 0, path)
    assert (train.own_names, val.own_names) == (["0.png", "1.png"], ["2.png"])
    write_split(path, {"train": ["0.png"], "val": ["1.png"]})
    assert stored_test_set(images, path) is None


def test_image_in_two_parts_or_missing_split_is_an_error(tmp_path):
    path = tmp_path / "split.csv"
    with pytest.raises(UserError, match=r"the split .*split\.csv does not exist. Accepted: a CSV file"):
        read_split(path, ["a"])
    write_split(path, {"train": ["a"], "test": ["a"]})
    with pytest.raises(UserError, match=r"the split .*split\.csv names a twice. Name each image once"):
        read_split(path, ["a"])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_folds_have_equal_shares_of_each_class(count):
    labels = np.random.default_rng(0).choice(3, 600, p=[0.7, 0.2, 0.1])
    fold = divide_into_folds(labels, None, count, seed=0)
    shares = np.array([np.bincount(labels[fold == k], minlength=3) for k in range(count)]) / np.bincount(labels)
    np.testing.assert_allclose(shares, 1 / count, atol=0.02)


@pytest.mark.parametrize("count", [2, 5])
def test_folds_do_not_split_groups(count):
    random = np.random.default_rng(0)
    groups = random.integers(0, 90, 900)
    labels = random.choice(3, 90, p=[0.6, 0.3, 0.1])[groups]
    fold = divide_into_folds(labels, groups, count, seed=0)
    assert all(len(set(fold[groups == group])) == 1 for group in np.unique(groups))
    shares = np.array([np.bincount(labels[fold == k], minlength=3) for k in range(count)]) / np.bincount(labels)
    np.testing.assert_allclose(shares, 1 / count, atol=0.12)


def test_more_folds_than_images_or_groups_are_refused():
    with pytest.raises(UserError, match=r"5 folds need at least 5 images, got 3. Use --folds 3"):
        divide_into_folds(np.zeros(3, int), None, 5, 0)
    with pytest.raises(UserError, match=r"5 folds need at least 5 groups, got 2. Use --folds 2"):
        divide_into_folds(np.zeros(9, int), np.arange(9) % 2, 5, 0)


def test_split_without_training_images_is_an_error(tmp_path):
    write_split(tmp_path / "split.csv", {"val": ["0.png"]})
    with pytest.raises(UserError, match=r"split\.csv has no training image. Give at least one image the part train"):
        split_images(grouped([0, 1], None), 0.2, 0, tmp_path / "split.csv")
