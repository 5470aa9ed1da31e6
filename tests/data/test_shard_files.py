"""Where the images of shards lie, against what tarfile and webdataset's package for braces say."""

import io
import os
import tarfile

import pytest

from transxnet.data import shard_files
from transxnet.data.image_files import find_images, find_sources, sorted_on_disk
from transxnet.data.images import UnreadableImage
from transxnet.data.shard_files import Source, expand_braces, shard_images
from transxnet.errors import UserError

CONTENT = {
    "a.jpg": b"first",
    "b.cls": b"1",
    "deep/" + "long" * 60 + ".PNG": b"second" * 300,
    "a.jpg.": b"",
    "c.webp": b"",
}


def write(path, members, **options) -> str:
    with tarfile.open(path, "w", **options) as file:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            file.addfile(header, io.BytesIO(content))
    return str(path)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_images_of_a_shard_are_read_where_they_lie(tmp_path, form):
    path = write(tmp_path / "a.tar", CONTENT.items(), format=form)
    found = list(shard_images(path))
    names = [name for name in CONTENT if name.lower().endswith((".jpg", ".png", ".webp"))]
    assert [source.name for source in found] == [f"{path}!{name}" for name in names]
    assert [source.read() for source in found] == [CONTENT[name] for name in names]
    assert [source.read("/elsewhere") for source in found] == [CONTENT[name] for name in names]  # the path is absolute


def test_shards_folders_and_files_go_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "d.png").touch()
    for i in range(3):
        write(tmp_path / f"s-{i}.tar", [(f"{i}.png", b"")])
    found = [source.name for source in find_sources(["s-{1..2}.tar", "folder", "s-*.tar", "folder/d.png"])]
    assert found == [
        "s-1.tar!1.png", "s-2.tar!2.png", "folder/d.png", "s-0.tar!0.png", "s-1.tar!1.png", "s-2.tar!2.png",
        "folder/d.png",
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"there is no file or folder 's-3.tar'"):
        list(find_sources(["s-{1..3}.tar"]))
    (tmp_path / "{a,b}.png").touch()
    assert list(find_images(["{a,b}.png"])) == ["{a,b}.png"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda data: data[:2000], "cannot be read to its end"),
        (lambda data: data[:1024], "it is cut off at byte 1,024, without the mark of an end"),
        (
            lambda data: data[:1024] + b"x" * 512 + data[1536:],
            "what stands at byte 1,024 is neither a file nor the end",
        ),
        (lambda data: data + data, "is neither a file nor the end"),
        (lambda data: b"", "cannot be read to its end: empty file"),
        (lambda data: b"\x1f\x8b" * 600, "cannot be read to its end"),
    ],
    ids=["within a file", "between files", "a header", "two in one", "empty", "compressed"],
)
def test_a_damaged_shard_is_refused_rather_than_read_in_part(tmp_path, harm, said):
    path = tmp_path / "a.tar"
    write(path, [("a.png", b"x" * 10), ("b.png", b"y" * 1000)])
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(UserError, match=f"the shard .*a.tar.*{said}.*Fetch it again, or leave it out"):
        list(shard_images(str(path)))


def test_compressed_shards_are_refused_with_a_way_on(tmp_path):
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(UserError, match=r"a.tar.gz is compressed, .* Unpack it to a .tar file"):
        list(find_sources([tmp_path / "a.tar.gz"]))


def test_a_member_that_is_no_image_by_its_size_or_is_gone_is_unreadable(tmp_path, monkeypatch):
    source = next(shard_images(write(tmp_path / "a.tar", CONTENT.items())))
    monkeypatch.setattr(shard_files, "MAX_BYTES", 4)
    with pytest.raises(UnreadableImage, match="5 bytes are more than 4"):
        source.read()
    with pytest.raises(UnreadableImage, match="No such file"):
        Source("b", str(tmp_path / "gone.tar"), 0, 1).read()


@pytest.mark.parametrize(
    "text",
    [
        "a-{000..011}.tar",
        "{8..11}",
        "{08..11}",
        "{3..1}",
        "{train,val}/s-{0..1}.tar",
        "a{b,}c",
        "plain",
        "{7}",
        "{}",
    ],
)
def test_braces_stand_for_what_webdataset_takes_them_for(text):
    braceexpand = pytest.importorskip("braceexpand")
    assert list(expand_braces(text)) == list(braceexpand.braceexpand(text))


def test_names_are_sorted_though_few_are_in_memory():
    names = [os.fsdecode(bytes([97 + i * 7 % 26, 255 - i, 10])) for i in range(50)]
    assert list(sorted_on_disk(names, in_memory=7)) == sorted(names)


def test_a_folder_that_can_not_be_read_is_not_passed_over(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"the folder .*closed can't be read: Permission denied"):
        list(find_images([tmp_path]))
