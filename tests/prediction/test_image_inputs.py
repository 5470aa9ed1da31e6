import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.prediction.image_inputs import open_source, read_image, split_images
from transxnet.utils.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        torch.from_numpy(PIXELS).permute(2, 0, 1) / 255,
        torch.from_numpy(PIXELS).permute(2, 0, 1).half() / 255,
    ],
    ids=["pil", "array", "uint8", "float", "half"],
)
def test_images_in_memory_keep_their_pixels(image):
    rgb, source = read_image(image)
    assert rgb.mode == "RGB"
    assert np.array_equal(np.asarray(rgb), PIXELS)
    assert open_source(source) is rgb


def test_files_are_upright_and_their_source_is_the_path(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    rgb, source = read_image(tmp_path / "a.png")
    assert source == str(tmp_path / "a.png")
    assert np.array_equal(np.asarray(rgb), np.rot90(PIXELS, -1))
    with Image.open(tmp_path / "a.png") as opened:
        assert np.array_equal(np.asarray(read_image(opened)[0]), np.rot90(PIXELS, -1))
    assert np.array_equal(np.asarray(open_source(source)), np.rot90(PIXELS, -1))


def test_gray_images_have_three_equal_channels():
    gray = PIXELS[..., 0]
    for image in (gray, Image.fromarray(gray)):
        assert np.array_equal(np.asarray(read_image(image)[0]), np.stack([gray] * 3, 2))


def test_images_in_shards_are_opened_by_the_name_in_results(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        shard.add(tmp_path / "a.png", "deep/a.png")
    assert np.array_equal(np.asarray(open_source(f"{tmp_path}/s.tar!deep/a.png")), PIXELS)
    with pytest.raises(UserError, match=r"cannot read .*s\.tar!b\.png: No such file"):
        open_source(f"{tmp_path}/s.tar!b.png")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("nowhere.png", r"cannot read nowhere\.png: No such file or directory\. Pass the path of an image file"),
        (".", r"\. is a folder\. Pass the paths of its images, or use transxnet\.predict"),
        (PIXELS / 255, r"must be \(H, W, 3\) RGB or \(H, W\) gray, uint8, got \(5, 7, 3\) float64\. Convert it"),
        (PIXELS.transpose(2, 0, 1), r"got \(3, 5, 7\) uint8"),
        (torch.zeros(5, 7, 3), r"a tensor must be \(3, H, W\) RGB, got \(5, 7, 3\)\. Use permute"),
        (torch.full((3, 2, 2), 255.0), r"must have values in 0 to 1, got 255 to 255\. Divide by 255"),
        (torch.full((3, 2, 2), float("nan")), r"must have values in 0 to 1, got nan to nan"),
        (torch.zeros(3, 2, 2, dtype=torch.int64), r"must be uint8, or float in 0 to 1, got int64"),
        (Image.fromarray(np.full((2, 2), 7, np.float32)), r"cannot use the PIL image of mode F: .*Convert it to RGB"),
        (7, r"an image must not be int\. Accepted: a path, a PIL image"),
    ],
)
def test_other_values_are_user_errors(image, message):
    with pytest.raises(UserError, match=message):
        read_image(image)


def test_single_images_and_collections_are_told_apart():
    image = Image.fromarray(PIXELS)
    for single in ("a.png", image, PIXELS, PIXELS[..., 0], torch.zeros(3, 2, 2)):
        images, is_single = split_images(single)
        assert is_single
        assert len(list(images)) == 1
    for several in (["a.png", image], (image,), iter([image]), np.stack([PIXELS]), torch.zeros(1, 3, 2, 2)):
        assert not split_images(several)[1]
    assert [each.shape for each in split_images(np.stack([PIXELS] * 2))[0]] == [(5, 7, 3)] * 2
    for value in (7, b"bytes", {"a": 1}, None):
        with pytest.raises(UserError, match=r"images must be one or several images, got \w+\. Accepted:"):
            split_images(value)
