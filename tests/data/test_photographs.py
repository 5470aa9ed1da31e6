import numpy as np
import pytest
from PIL import Image

from tests.helpers.annotated import write_picture
from transxnet.data.images import UnreadableImage, open_image
from transxnet.data.photographs import find_file, look_at_each, upright_size


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_the_upright_photograph(orientation, full, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    opened = open_image(tmp_path / "a.jpg")
    assert upright_size(str(tmp_path / "a.jpg"), full) == (opened.height, opened.width)
    assert (opened.height == 6) == (orientation in (6, 8))


def test_only_decoding_finds_what_is_truncated(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert upright_size(str(path), full=False) == (40, 40)
    with pytest.raises(UnreadableImage):
        upright_size(str(path), full=True)


@pytest.mark.parametrize("full", [False, True])
def test_what_is_no_image_has_no_size(full, tmp_path):
    (tmp_path / "a.jpg").write_text("no picture")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(UnreadableImage):
            upright_size(str(tmp_path / name), full)


def test_each_is_looked_at_in_order():
    assert list(look_at_each(3000, lambda i: i * 2)) == [i * 2 for i in range(3000)]
    assert list(look_at_each(0, lambda i: i)) == []


def test_files_are_found_by_their_path_or_else_by_their_last_part(tmp_path):
    write_picture(tmp_path / "a/1.png")
    write_picture(tmp_path / "2.png")
    assert find_file(tmp_path, "a/1.png") == find_file(tmp_path, "a\\1.png") == tmp_path / "a/1.png"
    assert find_file(tmp_path, "somewhere/else/2.png") == tmp_path / "2.png"
    assert find_file(tmp_path, "1.png") is None
    assert find_file(tmp_path, "a") is None
    assert find_file(tmp_path, "") is None
    assert find_file(tmp_path, "a\0b") is None
