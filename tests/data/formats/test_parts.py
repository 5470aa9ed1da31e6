from pathlib import Path

import pytest

from transxnet.data.formats.parts import Parts, choose_part, folders_of, part_folders, part_in, part_of
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("train2017", "train"),
        ("VAL", "val"),
        ("Validation", "val"),
        ("valid", "val"),
        ("dev", "val"),
        ("holdout", "val"),
        ("test", "test"),
        ("Test_2", "test"),
        ("trainers", None),
        ("images", None),
        ("2017", None),
    ],
)
def test_part_of_name(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("instances_train2017", "train"),
        ("boxes-Validation", "val"),
        ("my.TEST.2", "test"),
        ("trainval", "train"),
        ("train_val", "train"),
        ("trains", None),
        ("instances_default", None),
        ("2017", None),
    ],
)
def test_part_in_name(name, part):
    assert part_in(name) == part


def test_folders_of_parts(tmp_path):
    for name in ("Train", "training", "valid", "images"):
        (tmp_path / name).mkdir()
    (tmp_path / "test").touch()
    assert folders_of(tmp_path, "train") == [tmp_path / "Train", tmp_path / "training"]
    assert folders_of(tmp_path, "val") == [tmp_path / "valid"]
    assert folders_of(tmp_path, "test") == folders_of(tmp_path / "nowhere", "val") == []


def test_folders_are_sorted_into_the_sets():
    folders = [Path("data", name) for name in ("Test", "images", "train2017", "dev")]
    assert part_folders(folders) == (Path("data/train2017"), Path("data/dev"), Path("data/Test"))
    assert part_folders([]) == (None, None, None)


def test_two_folders_for_one_set_are_an_error():
    with pytest.raises(UserError, match=r"data contains two folders for one set: val/ and dev/"):
        part_folders([Path("data/val"), Path("data/dev")])


@pytest.mark.parametrize(
    ("parts", "split", "chosen"),
    [
        (("a", "b", "c"), None, "b"),
        (("a", None, "c"), None, "c"),
        (("a", None, None), None, "a"),
        (("a", "b", "c"), "test", "c"),
        (("a", "b", "c"), "Validation", "b"),
    ],
)
def test_choose_part_by_name_or_by_precedence(parts, split, chosen):
    assert choose_part(Parts(*parts), split, "data") == chosen


@pytest.mark.parametrize("split", ["test", "minival"])
def test_missing_split_names_the_accepted_ones(split):
    with pytest.raises(UserError, match=rf"photos has no split '{split}'\. Accepted: train, val\."):
        choose_part(Parts("a", "b"), split, "photos")
