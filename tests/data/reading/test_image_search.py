"""Positions of images in shards against tarfile, and brace patterns against webdataset's package."""

import os
import tempfile

import pytest

from tests.helpers.shards import write_shard
from transxnet.data.reading.image_search import ImageList, find_images, find_locations, sorted_on_disk
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError


def test_shards_folders_and_files_can_be_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "d.png").touch()
    for i in range(3):
        write_shard(tmp_path / f"s-{i}.tar", [(f"{i}.png", b"")])
    found = [source.name for source in find_locations(["s-{1..2}.tar", "folder", "s-*.tar", "folder/d.png"])]
    assert found == [
        "s-1.tar!1.png", "s-2.tar!2.png", "folder/d.png", "s-0.tar!0.png", "s-1.tar!1.png", "s-2.tar!2.png",
        "folder/d.png",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"'s-3.tar' does not exist"):
        list(find_locations(["s-{1..3}.tar"]))
    (tmp_path / "{a,b}.png").touch()
    assert list(find_images(["{a,b}.png"])) == ["{a,b}.png"]


def test_compressed_shards_are_refused_with_a_remedy(tmp_path):
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(UserError, match=r"a.tar.gz is compressed, .* Decompress it to a .tar file"):
        list(find_locations([tmp_path / "a.tar.gz"]))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a-{008..011}.tar", ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]),
        ("{8..11}.tar", ["8.tar", "9.tar", "10.tar", "11.tar"]),
        ("{08..11}.tar", ["08.tar", "09.tar", "10.tar", "11.tar"]),
        ("{3..1}.tar", ["3.tar", "2.tar", "1.tar"]),
        ("{train,val}-{0..1}.tar", ["train-0.tar", "train-1.tar", "val-0.tar", "val-1.tar"]),
        ("a{b,}c", ["abc", "ac"]),
    ],
)
def test_braces_expand_as_in_bash(text, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in names:
        (tmp_path / name).touch()
    assert list(find_images([text])) == names


@pytest.mark.parametrize("text", ["plain", "{7}", "{}", "{", "}{", "a{b", "{a,b"])
def test_anything_but_a_pattern_is_a_name(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        list(find_images([text]))
    (tmp_path / text).touch()
    assert list(find_images([text])) == [text]


def test_names_are_sorted_with_few_in_memory(monkeypatch):
    names = [os.fsdecode(bytes([97 + i * 7 % 26, 255 - i, 10])) for i in range(50)]
    for in_memory in (7, 49, 50):
        assert list(sorted_on_disk(names, in_memory)) == sorted(names)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *args, **options: pytest.fail("they fit in memory"))
    assert list(sorted_on_disk(names, 51)) == sorted(names)


def test_hidden_files_and_folders_are_skipped_unless_named(tmp_path):
    for name in ("a.png", ".b.png", "c/d.png", ".thumbnails/e.png", "c/.trash/deep/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_images([tmp_path])) == [str(tmp_path / "a.png"), str(tmp_path / "c/d.png")]
    assert list(find_images([f"{tmp_path}/**/*.png"])) == list(find_images([tmp_path]))
    assert list(find_images([tmp_path / ".thumbnails"])) == [str(tmp_path / ".thumbnails/e.png")]


def test_full_disk_for_the_list_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(WriteError, match=r"cannot write .*gone: No such file or directory"):
        ImageList([tmp_path])


def test_unreadable_folder_is_not_skipped(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot read folder .*closed: Permission denied"):
        list(find_images([tmp_path]))


def test_tables_stand_for_the_images_that_they_name(tmp_path):
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "new.csv").write_text("id,label\nb,1\na,0\nmissing,0\n")
    assert list(find_images([tmp_path / "new.csv"])) == [str(tmp_path / name) for name in ("b.jpg", "a.png", "missing")]
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    with pytest.raises(UserError, match=r"other.csv: column 'path' is missing"):
        list(find_images([tmp_path / "other.csv"]))
