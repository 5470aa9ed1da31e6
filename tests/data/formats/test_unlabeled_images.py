"""Images without labels."""

import pytest

from tests.helpers.annotated import write_image
from transxnet.data.formats.unlabeled_images import (
    NO_CLASSES,
    has_class_folders,
    read_unlabeled_images,
    without_labels,
)
from transxnet.utils.errors import UserError


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / name)
    return root


def test_images_of_nested_folders_are_read(tmp_path):
    images = read_unlabeled_images(write(tmp_path, "a.png", "2024/b.png", "2024/05/c.png"))
    assert sorted(images.own_names) == ["2024/05/c.png", "2024/b.png", "a.png"]
    assert images.class_names == NO_CLASSES and images.own_labels.tolist() == [0, 0, 0]
    assert images.image(0).mode == "RGB"


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UserError, match="contains no images"):
        read_unlabeled_images(tmp_path)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/0.png", "b/0.png"], True),
        (["a/x/0.png", "b/0.png"], True),
        (["a/0.png"], False),
        (["0.png", "1.png"], False),
        (["0.png", "a/0.png", "b/0.png"], False),
    ],
    ids=str,
)
def test_images_in_at_least_two_folders_have_classes(tmp_path, names, expected):
    assert has_class_folders(write(tmp_path, *names)) is expected


def test_folder_without_image_is_no_class(tmp_path):
    write(tmp_path, "a/0.png", "b/0.png")
    (tmp_path / "empty").mkdir()
    assert not has_class_folders(tmp_path)


def test_subset_without_labels_has_the_same_images(tmp_path):
    images = read_unlabeled_images(write(tmp_path, "a.png", "b.png", "c.png")).subset([2, 0])
    assert without_labels(images).own_names == images.own_names
