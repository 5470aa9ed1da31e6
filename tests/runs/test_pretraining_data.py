"""The images of a pretraining, from data of any task."""

import shutil

import pytest

from transxnet.data.formats.unlabeled_images import NO_CLASSES
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.runs.pretraining_data import open_pretraining_data


def opened(data, **options):
    return open_pretraining_data(PretrainConfig(str(data), **options), None, None)


def test_class_folders_keep_their_classes(photos):
    source = opened(photos)
    assert source.class_names == ["blue", "green", "red"]
    assert len(source.train) + len(source.val) == 45 and source.split_made


def test_folder_of_images_has_no_classes(photos):
    source = opened(photos / "red")
    assert (source.class_names, len(source.train) + len(source.val)) == (NO_CLASSES, 15)
    assert source.recognition.format == "images"


def test_images_outside_of_class_folders_are_used(photos, tmp_path):
    folder = shutil.copytree(photos, tmp_path / "photos")
    shutil.copy(photos / "red" / "000.png", folder / "loose.png")
    source = opened(folder)
    assert (source.class_names, len(source.train) + len(source.val)) == (NO_CLASSES, 46)


def test_sets_are_kept_and_the_test_set_is_dropped(photos, tmp_path):
    for part in ("train", "val", "test"):
        shutil.copytree(photos / "red", tmp_path / part / "one" / "deep")
        shutil.copytree(photos / "blue", tmp_path / part / "one" / "deep2")
    source = opened(tmp_path)
    assert (len(source.train), len(source.val), source.test, source.split_made) == (30, 30, None, False)


@pytest.mark.parametrize("name", ["squares", "maps"])
def test_boxes_and_label_maps_are_ignored(name, request):
    source = opened(request.getfixturevalue(name))
    assert (source.class_names, len(source.train), len(source.val)) == (NO_CLASSES, 6, 3)
    assert source.train.image(0).mode == "RGB"
