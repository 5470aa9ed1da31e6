import os

import pytest
from PIL import Image

from transxnet.data.formats.class_folders import find_class_folders, read_class_folders, record_unused_folders
from transxnet.data.formats.findings import Findings, Problem
from transxnet.utils.errors import UserError


def fill(root, *names):
    """Make empty files and their folders."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_classes_and_images_come_in_a_fixed_order(tmp_path):
    fill(tmp_path, "dog/b.png", "dog/a.png", "cat/z.jpg", "cat/deep/er/y.jpg", "Bird/1.gif")
    images = read_class_folders(tmp_path)
    assert images.class_names == ["Bird", "cat", "dog"]
    assert images.own_names == ["Bird/1.gif", "cat/z.jpg", "cat/deep/er/y.jpg", "dog/a.png", "dog/b.png"]
    assert images.own_labels.tolist() == [0, 1, 1, 2, 2]


def test_the_order_does_not_depend_on_the_file_system(tmp_path, monkeypatch):
    fill(tmp_path, *[f"{c}/{i}.png" for c in "cab" for i in range(5)], *[f"a/{d}/0.png" for d in "zyx"])
    first = read_class_folders(tmp_path).own_names
    scandir, listdir = os.scandir, os.listdir

    class Backwards:
        def __init__(self, path):
            self.entries = iter(list(scandir(path))[::-1])

        def __enter__(self):
            return self.entries

        def __exit__(self, *_):
            pass

        def __next__(self):
            return next(self.entries)

        def close(self):
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    monkeypatch.setattr(os, "listdir", lambda path: listdir(path)[::-1])
    assert read_class_folders(tmp_path).own_names == first


def test_class_folders_named_by_numbers_are_sorted_as_numbers(tmp_path):
    fill(tmp_path, *[f"{n}/image.png" for n in range(12)])
    images = read_class_folders(tmp_path)
    assert images.class_names == [str(n) for n in range(12)]
    assert images.own_names == [f"{n}/image.png" for n in range(12)]


def test_links_to_images_and_to_class_folders_count(tmp_path):
    fill(tmp_path, "elsewhere/a.png", "data/cat/b.png")
    (tmp_path / "data/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/cat/c.png").symlink_to(tmp_path / "elsewhere/a.png")
    assert read_class_folders(tmp_path / "data").own_names == ["cat/b.png", "cat/c.png", "dog/a.png"]


def test_circular_links_are_harmless(tmp_path):
    fill(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "cat/again").symlink_to(tmp_path / "cat")
    (tmp_path / "cat/up").symlink_to(tmp_path)
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "dog/round").symlink_to("round")
    assert read_class_folders(tmp_path).own_names == ["cat/a.png", "dog/b.png"]


def test_hidden_files_and_folders_do_not_count(tmp_path):
    fill(tmp_path, "cat/a.png", "cat/._a.png", "cat/.cache/b.png", ".git/c.png", "dog/d.png")
    assert read_class_folders(tmp_path).own_names == ["cat/a.png", "dog/d.png"]


def test_names_that_are_not_utf8_are_kept(tmp_path):
    folder = os.fsencode(tmp_path) + b"/cat"
    os.mkdir(folder)
    Image.new("RGB", (2, 2)).save(os.fsdecode(folder + b"/\xff,\n.png"))
    images = read_class_folders(tmp_path)
    assert os.fsencode(images.name(0)) == b"cat/\xff,\n.png"
    assert images.image(0).size == (2, 2)


@pytest.mark.parametrize(
    ("train", "val"),
    [("train", "val"), ("training", "validation"), ("Train", "Val"), ("TRAIN", "holdout"), ("train2017", "valid")],
)
@pytest.mark.parametrize("test", ["test", "Testing", None])
def test_sets_are_found_by_their_usual_names(tmp_path, train, val, test):
    names = [name for name in (train, val, test) if name]
    fill(tmp_path, "more/a.png", *(f"{name}/cat/a.png" for name in names))
    assert find_class_folders(tmp_path) == (tmp_path / train, tmp_path / val, test and tmp_path / test)


def test_missing_part_is_none(tmp_path):
    fill(tmp_path, "cat/a.png", "train")
    assert find_class_folders(tmp_path) == (tmp_path, None, None)
    fill(tmp_path, "val/cat/a.png")
    assert find_class_folders(tmp_path) == (None, tmp_path / "val", None)
    fill(tmp_path, "training/cat/a.png")
    assert find_class_folders(tmp_path) == (tmp_path / "training", tmp_path / "val", None)


@pytest.mark.parametrize("classes", [("invalid", "valid"), ("bus", "car", "train"), ("test", "train", "valid")])
def test_names_of_sets_can_be_classes(tmp_path, classes):
    fill(tmp_path, *(f"{name}/a.png" for name in classes))
    assert find_class_folders(tmp_path) == (tmp_path, None, None)
    assert read_class_folders(tmp_path).class_names == list(classes)


def test_two_folders_for_one_set_are_an_error(tmp_path):
    fill(tmp_path, "train/cat/a.png", "val/cat/a.png", "valid/cat/a.png")
    with pytest.raises(UserError, match=r"two folders for one set: val/ and valid/\. Accepted: one each"):
        find_class_folders(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"folder .*gone does not exist.*Accepted: a folder with one folder of images"):
        find_class_folders(tmp_path / "gone")


def test_a_file_is_an_error(tmp_path):
    fill(tmp_path, "photos.zip")
    with pytest.raises(UserError, match=r"photos\.zip is a file.*Accepted"):
        find_class_folders(tmp_path / "photos.zip")


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"is empty.*Accepted"):
        read_class_folders(tmp_path)


def test_a_folder_of_images_without_classes_is_an_error(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError, match=r"contains 2 files and no folders.*Accepted"):
        read_class_folders(tmp_path)


def test_one_class_is_an_error_where_two_are_needed(tmp_path):
    fill(tmp_path, "cat/a.png")
    with pytest.raises(
        UserError, match=r"contains one class, 'cat'; a classifier needs at least 2.*Did you mean .*cat"
    ):
        read_class_folders(tmp_path, minimum=2)
    assert len(read_class_folders(tmp_path)) == 1


def test_a_class_folder_without_images_is_an_error(tmp_path):
    fill(tmp_path, "cat/a.png", "dog/a.heic", "dog/b.heic", "dog/notes.txt")
    with pytest.raises(
        UserError, match=r"dog contains no images; found: 2 \.heic, 1 \.txt\. Accepted: \.apng, .*Convert.* move"
    ):
        read_class_folders(tmp_path)


@pytest.mark.parametrize("extension", [".jfif", ".JPEG", ".jpe", ".avif", ".mpo", ".TIF"])
def test_extensions_of_accepted_formats_are_images(tmp_path, extension):
    fill(tmp_path, f"cat/a{extension}")
    assert read_class_folders(tmp_path).own_names == [f"cat/a{extension}"]


def test_files_that_are_not_used_are_recorded(tmp_path):
    fill(tmp_path, "train/cat/a.png", "train/cat/b.heic", "train/c.png", "train/cat/.hidden", "other/d.png")
    findings = Findings()
    record_unused_folders(find_class_folders(tmp_path), findings)
    assert read_class_folders(tmp_path / "train", findings).own_names == ["cat/a.png"]
    assert findings.places == {
        Problem.NOT_USED: [
            "other/, next to train/",
            "c.png: outside the class folders",
            "cat/b.heic: not an image by its extension",
        ]
    }


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path, monkeypatch):
    fill(tmp_path, "cat/a.png", "cat/secret/b.png", "dog/c.png")
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot read folder .*secret: Permission denied"):
        read_class_folders(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_root_that_may_not_be_read_is_an_error(tmp_path):
    (tmp_path / "data").mkdir(mode=0)
    with pytest.raises(UserError, match=r"cannot read .*: Permission denied"):
        read_class_folders(tmp_path / "data")
