import gzip
import os

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from tests.helpers.shards import (
    NUMBERS,
    encode,
    solid,
    write_shard,
)
from transxnet.data.formats.timm_readers import open_reader
from transxnet.data.formats.webdataset_shards import read_shards
from transxnet.data.reading import tar_shards
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.utils.errors import UserError


def test_images_in_shards_equal_those_of_files(shards, tmp_path):
    data = shards(validation=[5])
    exif = Image.Exif()
    exif[0x0112] = 6
    items = {
        "0.png": encode(Image.fromarray(np.full((4, 4), 128 * 257, dtype=np.uint16))),
        "1.png": encode(Image.new("RGBA", (4, 4), (0, 0, 0, 0))),
        "2.jpg": encode(Image.new("RGB", (8, 4), (10, 10, 10)), "JPEG", exif=exif),
        "3.webp": encode(Image.new("RGB", (8, 4), (20, 20, 20)), "WEBP", lossless=True, exif=exif),
        "4.png": encode(Image.new("L", (8, 4), 30), exif=exif),
    }
    labels = {f"{i}.cls": b"0" for i in range(5)}
    write_shard(tmp_path / "pets-validation-0000.tar", dict(sorted((items | labels).items())))
    images = open_reader(data, "validation", NUMBERS)
    shown = [pil_to_tensor(images.image(i)) for i in range(5)]
    assert [tuple(image.shape) for image in shown] == [(3, 4, 4), (3, 4, 4), (3, 8, 4), (3, 8, 4), (3, 8, 4)]
    assert [int(image[0, 0, 0]) for image in shown] == [128, 255, 10, 20, 30]


@pytest.mark.parametrize(
    "fault", ["cut off", "compressed", "no label", "not a number", "class 7", "class 2^64", "another length"]
)
def test_invalid_shard_is_named(shards, tmp_path, fault):
    data = shards(train=[2, 2])
    path = tmp_path / "pets-train-0001.tar"
    whole = path.read_bytes()
    if fault == "cut off":
        path.write_bytes(whole[:1500])
    if fault == "compressed":
        path.write_bytes(gzip.compress(whole))
    labels = {
        "no label": {},
        "not a number": {"a.cls": b"cat"},
        "class 7": {"a.cls": b"7"},
        "class 2^64": {"a.cls": b"%d" % 2**64},
    }
    if fault in labels:
        write_shard(path, {"a.jpg": solid(0), **labels[fault], "b.jpg": solid(1), "b.cls": b"1"})
    if fault == "another length":
        write_shard(path, {"a.jpg": solid(0), "a.cls": b"0"})
    message = {
        "no label": "no class index: a.cls is missing",
        "class 7": r"pets-train-0001/a has class index 7\. Accepted for 3 classes: 0 to 2",
        "class 2^64": r"'a\.cls' has 20 bytes; accepted for a class index: at most 18",
        "another length": r"contains 1 images, but its _info\.json lists 2",
    }
    with pytest.raises(UserError, match=message.get(fault, r"pets-train-0001\.tar")):
        open_reader(data, "train", NUMBERS)


@pytest.mark.parametrize("fault", ["cut between files", "a damaged header"])
def test_a_cut_shard_of_unknown_length_is_an_error(tmp_path, fault):
    path = tmp_path / "a.tar"
    write_shard(path, {f"{i}.{ending}": b"1" for i in range(3) for ending in ("cls", "png")})
    assert len(read_shards([path], ["a", "b"])) == 3
    whole = path.read_bytes()
    end = 4 * 1024  # of the second image: each file is one header block and one content block
    path.write_bytes(whole[:end] + (b"x" * 512 + whole[end + 512 :] if fault == "a damaged header" else b""))
    with pytest.raises(UserError, match=r"cannot read shard .*a\.tar to its end: .* byte 4,096"):
        read_shards([path], ["a", "b"])


def test_too_large_image_in_a_shard_is_unreadable(tmp_path, monkeypatch):
    write_shard(tmp_path / "a.tar", {"a.cls": b"1", "a.png": solid(1)})
    images = read_shards([tmp_path / "a.tar"], ["a", "b"])
    images.image(0)
    monkeypatch.setattr(tar_shards, "MAX_BYTES", 4)
    with pytest.raises(UnreadableImage, match="bytes, more than 4"):
        images.image(0)


def test_shards_skip_other_files_and_keys_may_have_folders(shards, tmp_path):
    data = shards(train=[2])
    items = {
        "x/a.json": b"{}", "x/a.CLS": b"9", "x/a.cls": b"2", "x/a.seg.png": solid(3), "x/a.jpeg": solid(1),
        "y/a.jpg": solid(2), "y/a.cls": b"1", "z.cls": b"0",
    }  # fmt: skip
    write_shard(tmp_path / "pets-train-0000.tar", items)
    images = open_reader(data, "train", NUMBERS)
    assert images.own_names == ["pets-train-0000/x/a", "pets-train-0000/y/a"]
    assert images.own_labels.tolist() == [2, 1]
    assert [np.asarray(images.image(i))[0, 0, 0] for i in range(2)] == [1, 2]
    os.remove(tmp_path / "pets-train-0000.tar")
    with pytest.raises(UnreadableImage, match="No such file"):
        images.image(0)
