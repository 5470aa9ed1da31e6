"""TIFF files in all layouts of channels, and hostile ones."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from transxnet.data.reading import tiff_decoding
from transxnet.data.reading.channel_decoding import open_channels
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.utils.errors import UserError

tifffile = pytest.importorskip("tifffile")
BANDS = np.random.default_rng(0).integers(0, 65536, (5, 16, 24), np.uint16)


def tiff(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def ifd(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A list of (tag, type, count, value), as at byte 8 of a file."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


HEADER = struct.pack("<2sHI", b"II", 42, 8)
SMALL = [(256, 4, 1, 4), (257, 4, 1, 4), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0), (279, 4, 1, 8)]


@pytest.mark.parametrize(
    "options",
    [
        dict(photometric="minisblack", planarconfig="separate"),
        dict(photometric="minisblack"),
        dict(photometric="minisblack", compression="zlib", predictor=True),
        dict(photometric="minisblack", planarconfig="separate", tile=(16, 16), bigtiff=True),
        dict(photometric="minisblack", byteorder=">", metadata=None),
        dict(imagej=True),
        dict(ome=True, photometric="minisblack"),
    ],
)
def test_channels_before_the_pixels_are_read(options):
    np.testing.assert_array_equal(open_channels(tiff(BANDS, **options), 5).numpy(), BANDS)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_deflate", "tiff_adobe_deflate"])
def test_compressions_of_libtiff_are_read(compression):
    file = io.BytesIO()
    Image.fromarray(BANDS[0]).save(file, "TIFF", compression=compression)
    np.testing.assert_array_equal(open_channels(file.getvalue(), 1)[0].numpy(), BANDS[0])


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("options", [dict(photometric="minisblack", planarconfig="contig"), {}])
def test_channels_after_the_pixels_are_read(options, dtype):
    values = (BANDS % 100).transpose(1, 2, 0).astype(dtype)
    np.testing.assert_array_equal(open_channels(tiff(values, **options), 5).numpy(), BANDS % 100)


def test_first_page_is_read_if_it_has_all_channels():
    for content in (BANDS[0], BANDS[:2]):
        file = io.BytesIO()
        with tifffile.TiffWriter(file) as writer:
            writer.write(content, photometric="minisblack", planarconfig=None if content.ndim == 2 else "separate")
            writer.write(content[..., ::2, ::2], photometric="minisblack")
        read = open_channels(file.getvalue(), 1 if content.ndim == 2 else 2)
        np.testing.assert_array_equal(read.numpy().squeeze(), content)


def test_other_number_of_channels_is_refused():
    with pytest.raises(UnreadableImage, match="not 4 channels"):
        open_channels(tiff(BANDS, photometric="minisblack"), 4)


def test_compression_of_other_programs_is_refused():
    content = tiff(BANDS, photometric="minisblack", compression="lzma")
    with pytest.raises(UnreadableImage, match="TIFF compression LZMA; accepted with --channels: none, LZW, Deflate"):
        open_channels(content, 5)


@pytest.mark.parametrize("entries", [[], SMALL[:3], [(256, 4, 1, 4 * 10**9), (257, 4, 1, 4 * 10**9), *SMALL[2:]]])
def test_damaged_or_huge_header_is_refused(entries):
    with pytest.raises(UnreadableImage):
        open_channels(HEADER + ifd(*entries), 1)


def test_truncated_file_is_refused():
    content = tiff(BANDS, photometric="minisblack", metadata=None)
    for length in (9, 100, len(content) // 2):
        with pytest.raises(UnreadableImage):
            open_channels(content[:length], 5)


def test_circular_pages_end(monkeypatch):
    monkeypatch.setattr(tiff_decoding, "MAX_PAGES", 200)
    size = len(ifd(*SMALL))
    pages = [ifd(*SMALL, following=8 + size * ((i + 1) % 150)) for i in range(150)]
    with pytest.raises(UnreadableImage, match="more than 200 pages"):
        open_channels(HEADER + b"".join(pages), 5)


def test_segment_that_unpacks_to_more_is_refused(monkeypatch):
    monkeypatch.setattr(tiff_decoding, "_INFLATED", 1 << 20)
    data = zlib.compress(bytes(1 << 24), 9)
    start = 8 + len(ifd(*SMALL))
    entries = [*SMALL[:3], (259, 3, 1, 8), SMALL[4], (273, 4, 1, start), (278, 4, 1, 4), (279, 4, 1, len(data))]
    start = 8 + len(ifd(*entries))
    entries[5] = (273, 4, 1, start)
    with pytest.raises(UnreadableImage, match="decompression bomb"):
        open_channels(HEADER + ifd(*entries) + data, 1)


def test_files_that_a_description_names_are_not_opened(tmp_path):
    """OME-XML may refer to the pixels of other files, of which tifffile's series would open any."""
    other = tmp_path / "other.ome.tif"
    tifffile.imwrite(other, BANDS, ome=True, photometric="minisblack")
    named = '<TiffData><UUID FileName="other.ome.tif"/></TiffData><TiffData'
    text = tifffile.TiffFile(other).ome_metadata.replace("<TiffData", named)
    path = tmp_path / "one.ome.tif"
    tifffile.imwrite(path, BANDS[0], description=text, metadata=None, photometric="minisblack")
    with pytest.raises(UnreadableImage, match="not 5 channels"):
        open_channels(path, 5)


def test_missing_package_is_named(monkeypatch):
    content = tiff(BANDS)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    monkeypatch.setattr(tiff_decoding, "require_package", _missing)
    with pytest.raises(UserError, match=r"transxnet\[channels\]"):
        open_channels(content, 5)


def _missing(module: str, install: str, purpose: str) -> None:
    raise UserError(f"{purpose} needs the package {module}. Install it with: pip install {install}")
