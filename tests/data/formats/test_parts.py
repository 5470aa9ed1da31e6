import pytest

from transxnet.data.formats.parts import part_of


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
