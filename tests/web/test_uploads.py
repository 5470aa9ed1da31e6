import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tests.helpers.broken_images import png_header
from transxnet.utils.errors import UserError
from transxnet.web.uploads import has_several_frames, limit_pixels, read_upload, resize_for_browser

ORANGE = (200, 120, 40)
TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6


def plain(mode: str = "RGB", size=(40, 30)) -> Image.Image:
    return Image.new("RGB", size, ORANGE).convert(mode)


@pytest.mark.parametrize(
    ("name", "image", "options", "colour"),
    [
        ("cmyk.jpg", plain("CMYK"), {"quality": 95}, ORANGE),
        ("palette.png", plain().quantize(8), {}, ORANGE),
        ("animated.gif", plain(), {"save_all": True, "append_images": [Image.new("RGB", (40, 30), "blue")]}, ORANGE),
        ("pages.tif", plain(), {"save_all": True, "append_images": [Image.new("RGB", (40, 30), "blue")]}, ORANGE),
        ("wide.png", Image.fromarray(np.full((30, 40), 257 * 90, np.uint16)), {}, (90, 90, 90)),
        ("clear.webp", Image.new("RGBA", (40, 30), (0, 0, 0, 0)), {"lossless": True}, (255, 255, 255)),
        ("phone.jpg", plain(), {"quality": 95, "exif": TURNED}, ORANGE),
    ],
)  # fmt: skip
def test_images_of_all_kinds_are_read(tmp_path, name, image, options, colour):
    image.save(tmp_path / name, **options)
    picture = read_upload(tmp_path / name)
    assert picture.mode == "RGB"
    assert picture.size == ((30, 40) if name == "phone.jpg" else (40, 30))  # rotated upright
    assert np.abs(np.asarray(picture).astype(int) - colour).max() <= 24  # GIF's palette, Pillow's plain CMYK
    assert has_several_frames(tmp_path / name) == (name in ("animated.gif", "pages.tif"))


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("words.png", b"no picture at all", "not an image"),
        ("empty.png", b"", "the file is empty"),
        ("huge.png", png_header(9000, 9000), "9000x9000 exceeds 50,000,000 pixels"),
        ("bomb.png", png_header(60_000, 60_000), "refused as a decompression bomb"),
        ("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "not an image"),
        ("page.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "not an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_file_is_named_with_reason_and_formats(tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_upload(tmp_path / name)
    for text in (f"{name} can't be used: ", why, "Accepted: JPEG, PNG"):
        assert text in str(error.value)


def test_truncated_file_is_refused(tmp_path):
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    (tmp_path / "cut.png").write_bytes(file.getvalue()[:2000])
    with pytest.raises(UserError, match=r"cut\.png can't be used: .*truncated"):
        read_upload(tmp_path / "cut.png")
    assert not has_several_frames(tmp_path / "gone.png")


def test_mpo_preview_is_not_a_further_frame(tmp_path):
    plain().save(tmp_path / "phone.mpo", save_all=True, append_images=[plain(size=(20, 15))])
    assert Image.open(tmp_path / "phone.mpo").n_frames == 2
    assert read_upload(tmp_path / "phone.mpo").size == (40, 30)
    assert not has_several_frames(tmp_path / "phone.mpo")


@pytest.mark.parametrize("size", [(4000, 3000), (30_000, 60)])
def test_limit_pixels_keeps_the_aspect_ratio(size):
    picture = limit_pixels(Image.new("RGB", size), 1_500_000)
    assert 1_400_000 < picture.width * picture.height <= 1_500_000
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.02)
    assert limit_pixels(picture, 1_500_000) is picture


@pytest.mark.parametrize(
    ("size", "shown"), [((16, 8), (480, 240)), ((300, 200), (300, 200)), ((2560, 100), (1280, 50))]
)
def test_browser_gets_neither_tiny_nor_huge_images(size, shown):
    assert resize_for_browser(Image.new("RGB", size)).size == shown


def test_reading_leaves_the_file_unchanged(tmp_path):
    plain().save(tmp_path / "a.png")
    before = Path(tmp_path / "a.png").read_bytes()
    read_upload(tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before
