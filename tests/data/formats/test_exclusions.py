"""Excluding the images that a table names."""

import numpy as np
import pytest

from tests.helpers.class_folders import write_photos
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages
from transxnet.data.formats.exclusions import copy_exclusions, read_exclusions
from transxnet.data.open_data import open_data
from transxnet.data.split import write_split
from transxnet.utils.errors import UserError


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", 5)


def sets():
    make = lambda: ClassificationSet(  # noqa: E731
        ArrayImages(np.zeros((4, 8, 8), np.uint8)), list("wxyz"), ["a", "b"], np.array([0, 1, 0, 1])
    )
    return make(), make(), None


def names_left(path):
    kept, note = read_exclusions(path).apply(sets())
    return [None if images is None else "".join(images.own_names) for images in kept], note


def test_rows_exclude_images_by_set_and_action(tmp_path):
    path = tmp_path / "fixes.csv"
    path.write_text("image,set,action\nw,train,exclude\nx,,exclude\ny,val,review\n,val,exclude\n")
    kept, note = names_left(path)
    assert kept == ["yz", "wyz", None]
    assert note == f"3 images excluded by {path} (2 train, 1 val)"


def test_names_without_an_image_are_counted(tmp_path):
    path = tmp_path / "names.csv"
    path.write_text("image,action\nw,EXCLUDE\nnowhere,exclude\n")
    assert names_left(path)[1] == f"2 images excluded by {path} (1 train, 1 val); 1 name there without an image"


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
        (
            "image,action\nw,Exclude\nx,delete\n",
            "line 3 of .* has action 'delete'. Accepted: exclude, review or an",
        ),
        ("image,set\nw,third\n", "line 2 of .* has set 'third'. Accepted: train, val, test"),
        ("image\nw\nx\ny\nz\n", "excludes all training images"),
        ("image,set\nw,val\nx,val\ny,val\nz,val\n", "excludes all validation images"),
    ],
)
def test_unsuitable_table_is_refused(tmp_path, text, message):
    path = tmp_path / "fixes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_exclusions(path).apply(sets())


def test_missing_table_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none.csv does not exist"):
        read_exclusions(tmp_path / "none.csv")


def test_excluded_images_leave_the_split_as_it_is(tmp_path):
    pytest.importorskip("sklearn")
    whole = open_data("digits")
    (tmp_path / "fixes.csv").write_text("image\n" + "\n".join(whole.val.own_names[:2] + whole.train.own_names[:3]))
    source = open_data("digits", exclude=tmp_path / "fixes.csv")
    assert source.train.own_names == whole.train.own_names[3:]
    assert source.val.own_names == whole.val.own_names[2:]
    assert "5 images excluded by" in source.notes[1] and "(3 train, 2 val)" in source.notes[1]
    stored = {part: images.own_names for part, images in source.divided.items()}
    assert stored == {"train": whole.train.own_names, "val": whole.val.own_names}


def test_stored_split_may_name_excluded_images(photos, tmp_path):
    data = str(photos)
    whole = open_data(data)
    split, fixes = tmp_path / "split.csv", tmp_path / "fixes.csv"
    write_split(split, {part: images.own_names for part, images in whole.divided.items()})
    gone, kept = whole.train.own_names[0], whole.train.own_names[1:]
    fixes.write_text(f"image\n{gone}\n")
    assert open_data(data, stored_split=split, exclude=fixes).train.own_names == kept
    (photos / gone).unlink()
    assert open_data(data, stored_split=split, exclude=fixes).train.own_names == kept
    with pytest.raises(UserError, match=r"images of the stored split .* are missing"):
        open_data(data, stored_split=split)


def test_split_of_a_former_run_is_without_excluded_images(photos, tmp_path):
    data = str(photos)
    whole = open_data(data)
    gone, kept = whole.train.own_names[0], whole.train.own_names[1:]
    write_split(tmp_path / "split.csv", {"train": kept, "val": whole.val.own_names})
    (tmp_path / "exclude.csv").write_text(f"image\n{gone}\n")
    source = open_data(data, stored_split=tmp_path / "split.csv", exclude=tmp_path / "exclude.csv")
    assert source.train.own_names == kept
