"""Image files of every format against hand-computed pixel values."""

import io
import os
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from tests.helpers.annotated import write_map
from transxnet.data.reading.image_decoding import (
    MAX_PIXELS,
    UnreadableImage,
    open_image,
    read_label_map,
    upright_size,
)


def check_header(source) -> None:
    upright_size(source, full=False)


RGB = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)


GREY = np.random.default_rng(1).integers(0, 256, (6, 10), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _no_warnings():
    """Turn Pillow's warnings into errors: none may reach the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def encode(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = open_image(data)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return color * share + 255 * (1 - share)


def gradient(height: int, width: int) -> np.ndarray:
    """A smooth image, which lossy formats change little."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 3 + 20, columns * 3 + 10, rows + columns], axis=2).astype(np.uint8)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_color_is_unchanged(form):
    assert (pixels(encode(Image.fromarray(RGB), form)) == RGB).all()


@pytest.mark.parametrize(("form", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95})])
def test_lossy_color_is_nearly_unchanged(form, options):
    image = gradient(32, 48)
    assert abs(pixels(encode(Image.fromarray(image), form, **options)) - image).max() <= 8


@pytest.mark.skipif(not features.check("jpg_2000"), reason="Pillow was built without JPEG 2000")
def test_lossless_jpeg_2000_is_unchanged():
    image = gradient(32, 48)
    assert (pixels(encode(Image.fromarray(image), "JPEG2000", irreversible=False)) == image).all()


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_gray_fills_all_channels(form):
    assert (pixels(encode(Image.fromarray(GREY), form)) == GREY[..., None]).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM", "BMP"])
def test_one_bit_is_black_and_white(form):
    bits = GREY > 127
    assert (pixels(encode(Image.fromarray(bits), form)) == bits[..., None] * 255).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF", "GIF", "BMP"])
def test_palette_colors_are_looked_up(form):
    index = GREY % 4
    palette = np.array([[255, 0, 0], [0, 200, 0], [1, 2, 3], [90, 90, 250]], dtype=np.uint8)
    image = Image.fromarray(index, "L").copy()
    image.putpalette(palette.tobytes())
    assert (pixels(encode(image, form)) == palette[index]).all()


def test_transparent_palette_color_becomes_white():
    index = GREY % 4
    palette = np.array([[255, 0, 0], [0, 200, 0], [1, 2, 3], [90, 90, 250]], dtype=np.uint8)
    image = Image.fromarray(index).copy()
    image.putpalette(palette.tobytes())
    truth = palette[index].copy()
    truth[index == 2] = 255
    assert (pixels(encode(image, "PNG", transparency=2)) == truth).all()
    assert (pixels(encode(image, "GIF", transparency=2)) == truth).all()


def test_translucent_palette_is_composited_on_white():
    index = GREY % 4
    palette = np.array([[255, 0, 0], [0, 200, 0], [1, 2, 3], [90, 90, 250]], dtype=np.uint8)
    alpha = np.array([0, 80, 160, 255], dtype=np.uint8)
    image = Image.fromarray(index).copy()
    image.putpalette(palette.tobytes())
    shown = pixels(encode(image, "PNG", transparency=alpha.tobytes()))
    assert abs(shown - over_white(palette[index], alpha[index])).max() <= 1


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_transparent_color_is_composited_on_white(form):
    rgba = np.dstack([RGB, GREY])
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    shown = pixels(encode(Image.fromarray(rgba), form, **options))
    assert abs(shown - over_white(RGB, GREY)).max() <= 1


def test_transparent_gray_is_composited_on_white():
    shown = pixels(encode(Image.fromarray(np.dstack([GREY, GREY[::-1]]), "LA"), "PNG"))
    assert abs(shown - over_white(np.repeat(GREY[..., None], 3, axis=2), GREY[::-1])).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_transparent_color_key_becomes_white(mode):
    array = np.full((4, 4) if mode == "L" else (4, 4, 3), 7, dtype=np.uint8)
    array[1] = 100
    key = 7 if mode == "L" else (7, 7, 7)
    shown = pixels(encode(Image.fromarray(array), "PNG", transparency=key))
    assert (shown[1] == 100).all()
    assert (shown[[0, 2, 3]] == 255).all()


@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(form):
    cmyk = np.zeros((16, 16, 4), dtype=np.uint8)
    cmyk[:] = 200, 40, 0, 30
    truth = [(255 - ink) * (255 - 30) / 255 for ink in (200, 40, 0)]
    shown = pixels(encode(Image.fromarray(cmyk, "CMYK"), form, **({"quality": 100} if form == "JPEG" else {})))
    assert abs(shown - np.array(truth)).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_by_their_range(form):
    wide = np.random.default_rng(2).integers(0, 65536, (6, 10), dtype=np.uint16)
    wide[0, :2] = 0, 65535
    shown = pixels(encode(Image.fromarray(wide), form))
    assert (shown == np.round(wide / 65535 * 255)[..., None]).all()


def test_big_endian_sixteen_bits_are_scaled_by_their_range():
    wide = np.array([[0, 257, 32896, 65535]], dtype=">u2")
    assert (pixels(b"P5 4 1 65535\n" + wide.tobytes())[0, :, 0] == [0, 1, 128, 255]).all()


def test_thirty_two_bit_integers_within_sixteen_bits_are_scaled():
    wide = np.array([[0, 257, 32896, 65535]], dtype=np.int32)
    assert (pixels(encode(Image.fromarray(wide), "TIFF"))[0, :, 0] == [0, 1, 128, 255]).all()


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_of_an_unknown_scale_are_refused(value):
    with pytest.raises(UnreadableImage, match="unknown scale"):
        pixels(encode(Image.fromarray(np.array([[0, value]], dtype=np.int32)), "TIFF"))


def test_floating_point_from_zero_to_one_is_scaled():
    values = np.array([[0, 0.25, 0.5, 1]], dtype=np.float32)
    assert abs(pixels(encode(Image.fromarray(values), "TIFF"))[0, :, 0] - [0, 64, 128, 255]).max() <= 1


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf])
def test_floating_point_of_an_unknown_scale_is_refused(value):
    with pytest.raises(UnreadableImage, match="unknown scale"):
        pixels(encode(Image.fromarray(np.array([[0, value]], dtype=np.float32)), "TIFF"))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation_is_used(form):
    first, second = Image.new("RGB", (9, 5), (255, 0, 0)), Image.new("RGB", (9, 5), (0, 0, 255))
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(first, form, save_all=True, append_images=[second], duration=100, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
    assert (pixels(data) == [255, 0, 0]).all()


STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", STORED)
def test_images_are_rotated_upright(orientation, form):
    upright = gradient(32, 48)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(form, {})
    shown = pixels(encode(stored, form, exif=exif, **options))
    assert shown.shape == upright.shape
    assert abs(shown - upright).max() <= (8 if form == "JPEG" else 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, bool])
def test_unusual_dtypes_are_rotated_upright(dtype):
    stored = np.zeros((2, 3), dtype=dtype)
    stored[0, 0] = 65535 if dtype is np.uint16 else 1
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise: the top left corner becomes the top right
    shown = pixels(encode(Image.fromarray(stored), "TIFF", exif=exif))
    assert shown.shape == (3, 2, 3)
    assert (np.argwhere(shown[..., 0]) == [[0, 1]]).all()


def test_an_orientation_that_does_not_exist_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert (pixels(encode(Image.fromarray(RGB), "PNG", exif=exif)) == RGB).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0junk and more junk", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01"])
def test_damaged_exif_is_ignored(exif):
    assert pixels(encode(Image.fromarray(gradient(16, 16)), "JPEG", exif=exif)).shape == (16, 16, 3)


def test_color_profile_is_harmless():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (pixels(encode(Image.fromarray(RGB), "PNG", icc_profile=profile)) == RGB).all()


def test_extension_does_not_determine_the_format(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(RGB).save(path, "PNG")
    assert (np.asarray(open_image(path)) == RGB).all()
    assert (np.asarray(open_image(str(path))) == RGB).all()


def test_the_file_is_closed_again(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(RGB).save(path)
    descriptors = "/dev/fd"
    before = len(os.listdir(descriptors))
    kept = [open_image(path) for _ in range(5)]
    assert len(os.listdir(descriptors)) == before
    assert len(kept) == 5


def png_header(width: int, height: int) -> bytes:
    """A PNG header that claims this size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("check", [open_image, check_header])
@pytest.mark.parametrize("size", [(200_000, 200_000), (1, 178_956_971), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused(check, size):
    with pytest.raises(UnreadableImage, match="decompression bomb"):
        check(png_header(*size))


def test_own_limit_holds_without_pillow_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(UnreadableImage, match=f"1x178956971 exceeds {MAX_PIXELS:,} pixels"):
        open_image(png_header(1, MAX_PIXELS + 1))


def test_large_image_below_the_limit_gives_no_warning():
    large = png_header(10_000, 10_000)  # Pillow warns above 89,478,486 pixels
    check_header(large)
    with pytest.raises(UnreadableImage, match=r"truncated|broken|incomplete"):
        open_image(large)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_truncated_image_error_names_the_reason(form):
    data = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)), form)
    cut = data[: len(data) // 2]
    check_header(cut)
    with pytest.raises(UnreadableImage, match=r"truncated|incomplete"):
        open_image(cut)


@pytest.mark.parametrize("check", [open_image, check_header])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"This is a text, and not an image.", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"\0" * 1000, "not an image"),
    ],
)
def test_non_image_error_names_the_reason(tmp_path, check, content, why):
    path = tmp_path / "image.png"
    path.write_bytes(content)
    for source in (path, str(path), content):
        with pytest.raises(UnreadableImage, match=why):
            check(source)


@pytest.mark.parametrize("check", [open_image, check_header])
def test_missing_file_error_names_the_reason(tmp_path, check):
    with pytest.raises(UnreadableImage, match=r"^No such file or directory$"):
        check(tmp_path / "gone.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UnreadableImage, match=r"^Is a directory$"):
        check(tmp_path / "folder.png")
    (tmp_path / "circle.png").symlink_to("circle.png")
    with pytest.raises(UnreadableImage, match="symbolic links"):
        check(tmp_path / "circle.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission_error_names_the_reason(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(RGB).save(path)
    path.chmod(0)
    with pytest.raises(UnreadableImage, match="Permission denied"):
        open_image(path)


EXIF = Image.Exif()


EXIF[0x0112] = 6


EXIF[0x010E] = "an image"


FORMS = {
    "PNG": dict(exif=EXIF),
    "JPEG": dict(exif=EXIF),
    "GIF": {},
    "BMP": {},
    "TIFF": dict(exif=EXIF, compression="tiff_lzw"),
    "WEBP": dict(exif=EXIF),
    "PPM": {},
}


@pytest.mark.parametrize("check", [open_image, check_header])
@pytest.mark.parametrize("form", FORMS)
def test_damaged_file_is_read_or_refused_with_a_reason(form, check, capfd):
    chance = random.Random(form)
    whole = encode(Image.fromarray(gradient(24, 16)), form, **FORMS[form])
    reasons = []
    for _ in range(300):
        data = bytearray(whole[: chance.randrange(1, len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.choice([0, 1, 1, 2, 8])):
            data[chance.randrange(min(len(data), 400))] ^= 1 << chance.randrange(8)
        try:
            check(bytes(data))
        except UnreadableImage as error:
            reasons.append(str(error).strip())
    assert 0 < len(reasons) < 300
    assert all(reasons)
    if form != "TIFF":  # libtiff writes to stderr on its own
        assert capfd.readouterr() == ("", "")


def test_out_of_memory_is_reported(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(UnreadableImage, match="MemoryError"):
        open_image(encode(Image.fromarray(RGB), "BMP"))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_the_upright_image(orientation, full, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    opened = open_image(tmp_path / "a.jpg")
    assert upright_size(str(tmp_path / "a.jpg"), full) == (opened.height, opened.width)
    assert (opened.height == 6) == (orientation in (6, 8))


def test_truncation_is_found_by_decoding_only(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:200])
    assert upright_size(str(path), full=False) == (40, 40)
    with pytest.raises(UnreadableImage):
        upright_size(str(path), full=True)


@pytest.mark.parametrize("full", [False, True])
def test_non_image_has_no_size(full, tmp_path):
    (tmp_path / "a.jpg").write_text("not an image")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(UnreadableImage):
            upright_size(str(tmp_path / name), full)


VALUES = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)


@pytest.mark.parametrize("kind", ["png", "bmp", "tif"])
def test_label_bytes_are_unchanged(kind, tmp_path):
    path = write_map(tmp_path / f"a.{kind}", VALUES)
    assert (read_label_map(str(path)) == VALUES).all()


def test_palette_labels_are_indices(tmp_path):
    image = Image.fromarray(VALUES % 5)
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    image.save(tmp_path / "a.png")
    assert (read_label_map(str(tmp_path / "a.png")) == VALUES % 5).all()


def test_bits_wide_integers_and_gray_colors_are_labels(tmp_path):
    Image.fromarray(VALUES > 2).save(tmp_path / "bits.png")
    assert read_label_map(str(tmp_path / "bits.png")).tolist() == [[0, 0, 0], [1, 1, 1]]
    Image.fromarray(VALUES.astype(np.uint16) * 100).save(tmp_path / "wide.png")
    assert (read_label_map(str(tmp_path / "wide.png")) == VALUES.astype(int) * 100).all()
    for mode in ("RGB", "RGBA", "LA"):
        Image.fromarray(VALUES).convert(mode).save(tmp_path / f"{mode}.png")
        assert (read_label_map(str(tmp_path / f"{mode}.png")) == VALUES).all()


def test_colors_and_damage_are_refused(tmp_path):
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="is a color image"):
        read_label_map(str(tmp_path / "a.png"))
    (tmp_path / "b.png").write_text("not an image")
    for name in ("b.png", "c.png"):
        with pytest.raises(UnreadableImage):
            read_label_map(str(tmp_path / name))


def write_gray_png(path, values: np.ndarray, bits: int) -> None:
    """Write a grayscale PNG of 1, 2 or 4 bits, as tools that shrink PNG files do."""
    digits = ((values[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(len(values), -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in digits)

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_are_not_scaled(bits, tmp_path):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) % (1 << bits)
    write_gray_png(tmp_path / "a.png", values, bits)
    assert read_label_map(str(tmp_path / "a.png")).tolist() == values.tolist()


def test_labels_of_a_gray_palette_are_its_values(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1], [2, 2]]), "P")
    image.putpalette([7, 7, 7, 0, 0, 0, 2, 2, 2])
    image.save(tmp_path / "a.png")
    assert read_label_map(str(tmp_path / "a.png")).tolist() == [[7, 0], [2, 2]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colors_of_a_table_are_labels(mode, tmp_path):
    colors = np.uint8([[200, 0, 0], [0, 0, 0], [9, 9, 9]])
    pixels = np.uint8([[[0, 0, 0], [200, 0, 0]], [[9, 9, 9], [9, 9, 9]]])
    Image.fromarray(pixels).convert(mode, palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    assert read_label_map(str(tmp_path / "a.png"), colors).tolist() == [[1, 0], [2, 2]]
    unknown = read_label_map(str(tmp_path / "a.png"), colors[:2])
    assert unknown.tolist() == [[1, 0], [256 + 0x090909] * 2]
    Image.fromarray(np.uint8([[2, 0]])).save(tmp_path / "gray.png")
    assert read_label_map(str(tmp_path / "gray.png"), colors).tolist() == [[2, 0]]
