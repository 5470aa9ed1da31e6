import tarfile

import pytest

from tests.helpers.shards import write_shard
from transxnet.data.reading import tar_shards
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.data.reading.tar_shards import ImageLocation, shard_images
from transxnet.utils.errors import UserError

CONTENT = {
    "a.jpg": b"first",
    "b.cls": b"1",
    "deep/" + "long" * 60 + ".PNG": b"second" * 300,
    "a.jpg.": b"",
    "c.webp": b"",
}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_images_of_a_shard_are_read_in_place(tmp_path, form):
    path = str(write_shard(tmp_path / "a.tar", CONTENT.items(), format=form))
    found = list(shard_images(path))
    names = [name for name in CONTENT if name.lower().endswith((".jpg", ".png", ".webp"))]
    assert [source.name for source in found] == [f"{path}!{name}" for name in names]
    assert [source.read() for source in found] == [CONTENT[name] for name in names]
    assert [source.read("/elsewhere") for source in found] == [CONTENT[name] for name in names]  # the path is absolute


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda data: data[:2000], "to its end"),
        (lambda data: data[:1024], "it is truncated at byte 1,024: the end-of-archive marker is missing"),
        (
            lambda data: data[:1024] + b"x" * 512 + data[1536:],
            "invalid header at byte 1,024",
        ),
        (lambda data: data + data, "invalid header at byte"),
        (lambda data: b"", "to its end: empty file"),
        (lambda data: b"\x1f\x8b" * 600, "to its end"),
    ],
    ids=["within a file", "between files", "a header", "two in one", "empty", "compressed"],
)
def test_a_damaged_shard_is_refused_rather_than_read_in_part(tmp_path, harm, message):
    path = tmp_path / "a.tar"
    write_shard(path, [("a.png", b"x" * 10), ("b.png", b"y" * 1000)])
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(UserError, match=f"cannot read shard .*a.tar.*{message}.*Download it again, or remove it"):
        list(shard_images(str(path)))


def test_member_too_large_or_missing_is_unreadable(tmp_path, monkeypatch):
    source = next(shard_images(str(write_shard(tmp_path / "a.tar", CONTENT.items()))))
    monkeypatch.setattr(tar_shards, "MAX_BYTES", 4)
    with pytest.raises(UnreadableImage, match="5 bytes, more than 4"):
        source.read()
    with pytest.raises(UnreadableImage, match="No such file"):
        ImageLocation("b", str(tmp_path / "gone.tar"), 0, 1).read()
