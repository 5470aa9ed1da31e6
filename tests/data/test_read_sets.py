import pytest

from tests.helpers.annotated import box, image, voc_object, write_coco, write_voc
from transxnet.data.open_data import open_data
from transxnet.utils.errors import UserError

CATS = [dict(id=5, name="cat"), dict(id=9, name="dog")]


def test_val_alone_is_an_error_in_training(folder):
    with pytest.raises(UserError, match=r"contains val/ but no train/\. Accepted: .* Add .*train, or pass .*val"):
        open_data(folder(val__cat=5, val__dog=5))


def test_no_object_at_all_is_an_error(tmp_path):
    write_coco(tmp_path / "annotations.json", [image(1)], [], CATS, image_folder=tmp_path)
    with pytest.raises(UserError, match="no training objects in 1 images"):
        open_data(str(tmp_path))


def test_pascal_voc_has_boxes_only(tmp_path):
    for stem in "abcd":
        write_voc(tmp_path, stem, voc_object("cat", (1, 1, 4, 3)))
    source = open_data(str(tmp_path), "detect")
    assert (len(source.train), len(source.val), source.class_names) == (3, 1, ["cat"])
    with pytest.raises(UserError, match=r"has boxes but no .*masks"):
        open_data(str(tmp_path), masks=True)


def test_crowds_alone_are_an_error(tmp_path):
    write_coco(tmp_path / "a.json", [image(1)], [box(1, 1, iscrowd=1)], image_folder=tmp_path)
    with pytest.raises(UserError, match=r"no training objects in 1 images\. All 1 are marked iscrowd or difficult"):
        open_data(str(tmp_path))
