"""The check in train: images in two sets, and rare classes, in one line."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers.class_folders import write_photos
from transxnet.data import short_check
from transxnet.data.open_data import open_data
from transxnet.data.short_check import describe_problems, shared_images


@pytest.fixture
def data(tmp_path):
    """Training and validation images in their own folders."""
    for part, count, seed in (("train", 12, 0), ("val", 4, 1)):
        write_photos(tmp_path / "data" / part, count, seed)
    return tmp_path / "data"


def test_data_without_problems_names_the_full_check(data):
    assert describe_problems(open_data(str(data))) == (
        f"check: no exact duplicates in two sets, no rare classes. For near duplicates: transxnet check {data}"
    )


def test_copies_in_both_sets_and_rare_classes_are_counted(data):
    shutil.copy(data / "train" / "red" / "003.png", data / "val" / "red" / "copy.png")
    shutil.copy(data / "train" / "red" / "003.png", data / "val" / "red" / "again.png")
    for path in sorted((data / "train" / "green").iterdir())[1:]:
        path.unlink()
    assert describe_problems(open_data(str(data))) == (
        "check: 2 validation images also in the training set; 1 rare class, such as green (12 times rarer than blue). "
        f"For details: transxnet check {data}"
    )


def test_files_of_large_sets_are_not_compared(data, monkeypatch):
    monkeypatch.setattr(short_check, "FULL_UP_TO", 47)  # there are 48 images
    monkeypatch.setattr(short_check, "shared_images", None)
    line = describe_problems(open_data(str(data)))
    assert line == f"check: no rare classes. For duplicates: transxnet check {data}"


def test_only_files_of_equal_size_and_start_are_read_completely(tmp_path, monkeypatch):
    for part in ("train", "val"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
    dice, read = np.random.default_rng(0), []
    for i, part in enumerate(["train", "train", "val", "val"]):
        Image.fromarray(dice.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(
            tmp_path / part / "ab"[i % 2] / f"{i}.bmp"
        )
    shutil.copy(tmp_path / "train" / "a" / "0.bmp", tmp_path / "val" / "a" / "same.bmp")
    source = open_data(str(tmp_path))
    digest = short_check._digest

    def note(images, index, limit=None):
        read.append((images.name(index), limit))
        return digest(images, index, limit)

    monkeypatch.setattr(short_check, "_digest", note)
    assert len({os.path.getsize(path) for path in tmp_path.rglob("*.bmp")}) == 1
    same = source.train.own_names.index("a/0.bmp")
    assert shared_images(source.train, source.val) == {source.val.own_names.index("a/same.bmp"): [same]}
    assert len(read) == 5 + 2
    assert [name for name, limit in read if limit is None] == ["a/0.bmp", "a/same.bmp"]


def test_arrays_are_compared_by_pixels():
    pytest.importorskip("sklearn")
    source = open_data("digits")
    assert shared_images(source.train, source.val) == {}
    assert shared_images(source.train, source.train.subset(np.arange(3))) == {0: [0], 1: [1], 2: [2]}


def test_other_labels_of_the_same_images_are_counted(data):
    shutil.copy(data / "train" / "red" / "003.png", data / "val" / "red" / "copy.png")
    shutil.copy(data / "train" / "red" / "004.png", data / "val" / "blue" / "wrong.png")
    line = describe_problems(open_data(str(data)))
    assert line.startswith("check: 2 validation images also in the training set, 1 of them with another label. For")
