"""Where the images of shards lie, against what tarfile and webdataset's package for braces say."""

import gc
import io
import os
import tarfile
import tempfile

import pytest
from PIL import Image
from torch.utils.data import DataLoader

from tests.helpers.shards import write_shard
from transxnet.data import image_files, shard_files
from transxnet.data.image_files import FilesDataset, SourceList, find_images, find_sources, sorted_on_disk
from transxnet.data.images import UnreadableImage
from transxnet.data.shard_files import Source, expand_braces, shard_images
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError

CONTENT = {
    "a.jpg": b"first",
    "b.cls": b"1",
    "deep/" + "long" * 60 + ".PNG": b"second" * 300,
    "a.jpg.": b"",
    "c.webp": b"",
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_images_of_a_shard_are_read_where_they_lie(tmp_path, form):
    path = str(write_shard(tmp_path / "a.tar", CONTENT.items(), format=form))
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
        write_shard(tmp_path / f"s-{i}.tar", [(f"{i}.png", b"")])
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
    write_shard(path, [("a.png", b"x" * 10), ("b.png", b"y" * 1000)])
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(UserError, match=f"the shard .*a.tar.*{said}.*Fetch it again, or leave it out"):
        list(shard_images(str(path)))


def test_compressed_shards_are_refused_with_a_way_on(tmp_path):
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(UserError, match=r"a.tar.gz is compressed, .* Unpack it to a .tar file"):
        list(find_sources([tmp_path / "a.tar.gz"]))


def test_a_member_that_is_no_image_by_its_size_or_is_gone_is_unreadable(tmp_path, monkeypatch):
    source = next(shard_images(str(write_shard(tmp_path / "a.tar", CONTENT.items()))))
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


def test_names_are_sorted_though_few_are_in_memory(monkeypatch):
    names = [os.fsdecode(bytes([97 + i * 7 % 26, 255 - i, 10])) for i in range(50)]
    for in_memory in (7, 49, 50):
        assert list(sorted_on_disk(names, in_memory)) == sorted(names)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *args, **options: pytest.fail("they fit in memory"))
    assert list(sorted_on_disk(names, 51)) == sorted(names)


def test_hidden_files_and_folders_are_left_out_of_a_folder_unless_they_are_named(tmp_path):
    for name in ("a.png", ".b.png", "c/d.png", ".thumbnails/e.png", "c/.trash/deep/f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(find_images([tmp_path])) == [str(tmp_path / "a.png"), str(tmp_path / "c/d.png")]
    assert list(find_images([f"{tmp_path}/**/*.png"])) == list(find_images([tmp_path]))
    assert list(find_images([tmp_path / ".thumbnails"])) == [str(tmp_path / ".thumbnails/e.png")]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_images_are_searched_for_once_however_many_processes_read_them(tmp_path, monkeypatch, workers):
    members = [(os.fsdecode(b"%d-\xff.png" % i), encoded(i)) for i in range(7)]
    path = str(write_shard(tmp_path / "a.tar", members))
    Image.new("L", (1, 1), 7).save(tmp_path / "7.png")

    def noted(path: str):
        with (tmp_path / "searches").open("a") as file:
            file.write("x")  # in whichever process
        return shard_images(path)

    monkeypatch.setattr(image_files, "shard_images", noted)
    sources = SourceList([path, tmp_path / "7.png"])
    Image.new("L", (1, 1), 8).save(tmp_path / "8.png")  # too late
    assert len(sources) == 8
    dataset = FilesDataset(sources, lambda picture: picture.getpixel((0, 0))[0], 2)
    for _ in range(2):
        found = list(DataLoader(dataset, 2, num_workers=workers, collate_fn=list))
        names, values, errors = zip(*(item for batch in found for item in batch), strict=True)
        assert list(names) == [f"{path}!{name}" for name, _ in members] + [str(tmp_path / "7.png")]
        assert list(values) == list(range(8))
        assert not any(errors)
    assert (tmp_path / "searches").read_text() == "x"
    kept = sources._path
    assert os.path.exists(kept)
    del sources, dataset
    gc.collect()
    assert not os.path.exists(kept)


def encoded(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (1, 1), value).save(file, "PNG")
    return file.getvalue()


def test_a_disk_without_room_for_the_list_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(WriteError, match=r"cannot write .*gone: No such file or directory"):
        SourceList([tmp_path])


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
