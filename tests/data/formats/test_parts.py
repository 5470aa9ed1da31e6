import pytest

from transxnet.data.formats.parts import Parts, arrange_parts, folders_of, part_folders, part_in, part_of


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
    assert part_folders(tmp_path) == Parts(tmp_path / "Train", tmp_path / "valid", None)
    assert part_folders(tmp_path / "nowhere") == Parts()


def test_test_set_alone_is_validated_on():
    assert arrange_parts(test=1) == Parts(None, 1, None)
    assert arrange_parts(train=0, test=1) == Parts(0, None, 1)
    assert arrange_parts(val=0, test=1) == Parts(None, 0, 1)
