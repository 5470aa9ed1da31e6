"""Values of every kind of file with channels, against the values that were written."""

import gc
import io
import os
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.data.reading.channel_decoding import MAX_VALUES, check_shape, open_channels, to_channels
from transxnet.data.reading.image_decoding import UnreadableImage

NOISE = np.random.default_rng(0)


def npy(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, values, **options)
    return file.getvalue()


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float16", "float32", "float64", "bool", ">u2"])
@pytest.mark.parametrize("last", [True, False])
def test_npy_values_are_kept(dtype, last, tmp_path):
    values = NOISE.integers(0, 2 if dtype == "bool" else 120, (5, 6, 7)).astype(dtype)
    (tmp_path / "a.npy").write_bytes(npy(values.transpose(1, 2, 0) if last else values))
    for source in (tmp_path / "a.npy", str(tmp_path / "a.npy"), (tmp_path / "a.npy").read_bytes()):
        read = open_channels(source, 5)
        assert read.dtype == torch.float32 and read.is_contiguous()
        np.testing.assert_array_equal(read.numpy(), values.astype("float32"))


class PausedCollection:
    """Garbage whose collection lets other threads run."""

    def __init__(self):
        self.cycle = self

    def __del__(self):
        time.sleep(1e-4)


def test_npy_is_read_on_several_threads():
    """Before Python 3.11.8 a parsed header fails if another thread parses one meanwhile (cpython #106905)."""
    source = npy(np.ones((6, 7, 4), np.uint8))

    def read(depth):
        PausedCollection()
        return read(depth - 1) if depth else open_channels(source, 4).sum()

    thresholds = gc.get_threshold()
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert set(map(float, pool.map(read, [i % 7 for i in range(600)]))) == {168.0}
    finally:
        gc.set_threshold(*thresholds)


def test_npy_in_fortran_order_is_read():
    values = np.asfortranarray(NOISE.normal(size=(6, 7, 2)).astype(np.float32))
    np.testing.assert_array_equal(open_channels(npy(values), 2).numpy(), values.transpose(2, 0, 1))


def test_last_axis_is_used_if_both_have_this_length():
    values = NOISE.normal(size=(2, 7, 2)).astype(np.float32)
    np.testing.assert_array_equal(to_channels(values, 2).numpy(), values.transpose(2, 0, 1))


def test_single_channel_needs_no_axis():
    assert open_channels(npy(np.ones((6, 7), np.uint16)), 1).shape == (1, 6, 7)


@pytest.mark.parametrize(
    ("mode", "kind", "channels"),
    [("L", "PNG", 1), ("1", "PNG", 1), ("LA", "PNG", 2), ("RGB", "BMP", 3), ("RGBA", "PNG", 4), ("P", "GIF", 3)],
)
def test_pillow_images_keep_their_channels(mode, kind, channels):
    image = Image.fromarray(NOISE.integers(0, 256, (6, 7, 4), dtype=np.uint8)).convert(mode)
    read = open_channels(encoded(image, kind), channels)
    values = np.asarray(image.convert("RGB") if mode == "P" else image, np.float32).reshape(6, 7, channels)
    np.testing.assert_array_equal(read.numpy(), values.transpose(2, 0, 1))


def test_16_bit_grayscale_png_keeps_its_bits():
    values = NOISE.integers(0, 65536, (6, 7), np.uint16)
    np.testing.assert_array_equal(open_channels(encoded(Image.fromarray(values), "PNG"), 1)[0].numpy(), values)


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000", "AVIF"])
def test_formats_that_pillow_reduces_to_8_bits_are_refused(kind):
    with pytest.raises(UnreadableImage, match="may have more than 8 bits"):
        open_channels(encoded(Image.new("RGB", (16, 16)), kind), 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"text", "not an image"),
        (b"\x93NUMPY", "."),
        (b"\x93NUMPY\x03\x00", "NPY version 3"),
        (npy(np.array([[{}]], object), allow_pickle=True), "Python objects"),
        (npy(np.ones((6, 7, 4)))[:-1], "."),
        (npy(np.ones((6, 7, 5))), r"shape \(6, 7, 5\), not 4 channels"),
        (npy(np.ones((6, 7))), r"shape \(6, 7\), not 4 channels"),
        (npy(np.ones((4, 4))), "not 4 channels"),
        (npy(np.ones((2, 4, 6, 4))), "not 4 channels"),
        (npy(np.ones((0, 7, 4))), "without pixels"),
        (npy(np.full((6, 7, 4), np.nan)), "NaN or infinite"),
        (npy(np.full((6, 7, 4), 1e300)), "beyond the range of float32"),
        (npy(np.ones((6, 7, 4), complex)), "type complex128"),
        (npy(np.full((6, 7, 4), "a")), "type <U1"),
    ],
)
def test_unusable_content_is_refused_with_the_reason(content, reason):
    with pytest.raises(UnreadableImage, match=reason):
        open_channels(content, 4)


def test_large_shape_is_refused_before_memory_is_used():
    header = npy(np.ones((1, 1, 4)))
    claimed = header.replace(b"'shape': (1, 1, 4), }" + b" " * 20, b"'shape': (999999999, 9999, 4), }".ljust(41))
    assert claimed != header
    with pytest.raises(UnreadableImage, match="decompression bomb"):
        open_channels(claimed, 4)
    check_shape((1, MAX_VALUES))
    for shape in ((2, MAX_VALUES), (-1, 5)):
        with pytest.raises(UnreadableImage):
            check_shape(shape)


def test_files_that_cannot_be_opened_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name, reason in (("pipe.npy", "a pipe or a device"), (".", "Is a directory"), ("none.npy", "No such file")):
        with pytest.raises(UnreadableImage, match=reason):
            open_channels(tmp_path / name, 4)


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_color_png_is_refused(kind, channels):
    header, rows = struct.pack(">IIBBBBB", 2, 2, 16, kind, 0, 0, 0), (b"\0" + bytes(4 * channels)) * 2
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    with pytest.raises(UnreadableImage, match="PNG in color may have more than 8 bits"):
        open_channels(b"\x89PNG\r\n\x1a\n" + b"".join(parts), channels)
