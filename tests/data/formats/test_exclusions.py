"""Excluding the images that a table names."""

import numpy as np
import pytest

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.formats.exclusions import copy_exclusions, exclude_images
from transxnet.data.open_data import open_data
from transxnet.utils.errors import UserError


def sets():
    make = lambda: ClassificationSet(  # noqa: E731
        ArrayImages(np.zeros((4, 8, 8), np.uint8)), list("wxyz"), ["a", "b"], np.array([0, 1, 0, 1])
    )
    return make(), make(), None


def names_left(path):
    kept, note = exclude_images(sets(), path)
    return [None if images is None else "".join(images.own_names) for images in kept], note


def test_rows_exclude_images_by_set_and_action(tmp_path):
    path = tmp_path / "fixes.csv"
    path.write_text("image,set,action\nw,train,exclude\nx,,exclude\ny,val,review\n,val,exclude\n")
    kept, note = names_left(path)
    assert kept == ["yz", "wyz", None]
    assert note == f"3 images excluded by {path} (2 train, 1 val)"


def test_column_image_alone_excludes_from_all_sets(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("image\nz\n")
    assert names_left(path)[0] == ["wxy", "wxy", None]


def test_copied_exclusions_exclude_the_same_images(tmp_path):
    path, copy = tmp_path / "fixes.csv", tmp_path / "exclude.csv"
    path.write_text("image;action;set\nw;exclude;val\nx;review;\ny;exclude;\n")
    copy_exclusions(path, copy)
    assert copy.read_text() == "image,set\ny,\nw,val\n"
    assert names_left(path)[0] == names_left(copy)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\nw\n", "column 'image' is missing. Columns found: name"),
        ("image\nnowhere\n", "no image of the data is named in"),
        ("image,set\nw,third\n", "line 2 of .* has set 'third'. Accepted: train, val, test"),
        ("image\nw\nx\ny\nz\n", "excludes all training images"),
    ],
)
def test_unsuitable_table_is_refused(tmp_path, text, message):
    path = tmp_path / "fixes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        exclude_images(sets(), path)


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none.csv does not exist"):
        exclude_images(sets(), tmp_path / "none.csv")


def test_excluded_images_of_a_sample_are_not_split(tmp_path):
    pytest.importorskip("sklearn")
    (tmp_path / "fixes.csv").write_text("image\ndigit0000\ndigit0001\n")
    source = open_data("digits", exclude=tmp_path / "fixes.csv")
    assert len(source.train) + len(source.val) == 1795
    assert "2 images excluded" in source.notes[1]
