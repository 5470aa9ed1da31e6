"""Broken image files: any number of cases, each determined by its number."""

import io
import random
import struct
import zlib
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, features

from transxnet.data.reading.image_decoding import EXTENSIONS

ENDINGS = sorted(EXTENSIONS)


@dataclass(frozen=True)
class BrokenImage:
    """A broken image file.

    Attributes:
        kind: how the file was broken.
        name: file name; the extension may not match the content.
        content: its bytes.
    """

    kind: str
    name: str
    content: bytes


def broken_image(number: int) -> BrokenImage:
    """Create the case with this number."""
    chance = random.Random(number)
    kind = list(_KINDS)[number % len(_KINDS)]
    form = chance.choice(list(whole_files()))
    content = _KINDS[kind](chance, form, whole_files()[form])
    ending = chance.choice(ENDINGS) if chance.random() < 0.2 else f".{form.split()[0]}"
    return BrokenImage(kind, f"{number:06d}{ending}", content)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and contains almost no pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0"))]
    ends = [struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    whole = [struct.pack(">I", len(data)) + kind + data + end for (kind, data), end in zip(chunks, ends, strict=True)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


@cache
def whole_files() -> dict[str, bytes]:
    """Valid files by extension and variant."""
    noise = np.random.default_rng(0)
    color = Image.fromarray(noise.integers(0, 256, (37, 53, 3), dtype=np.uint8))
    gray, palette = color.convert("L"), color.convert("P")
    clear = color.convert("RGBA")
    clear.putalpha(gray)
    wide = Image.fromarray(noise.integers(0, 65536, (37, 53), dtype=np.uint16))
    real = Image.fromarray(noise.random((37, 53), dtype=np.float32))
    frames = dict(save_all=True, append_images=[color.rotate(90), color.rotate(180)], duration=40)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "an image"
    made = {
        "jpg plain": _encoded(color, "JPEG", exif=exif, icc_profile=b"\0" * 200, comment=b"x" * 50),
        "jpg progressive": _encoded(color, "JPEG", progressive=True, subsampling=0),
        "jpg gray": _encoded(gray, "JPEG"),
        "jpg cmyk": _encoded(color.convert("CMYK"), "JPEG"),
        "jpg mpo": _encoded(color, "MPO", save_all=True, append_images=[color.rotate(90)]),
        "png color": _encoded(color, "PNG", exif=exif),
        "png clear": _encoded(clear, "PNG"),
        "png palette": _encoded(palette, "PNG", transparency=b"\0\x80\xff"),
        "png wide": _encoded(wide, "PNG"),
        "png bits": _encoded(color.convert("1"), "PNG"),
        "png animated": _encoded(color, "PNG", **frames),
        "gif still": _encoded(palette, "GIF"),
        "gif animated": _encoded(palette, "GIF", **frames, transparency=3),
        "bmp color": _encoded(color, "BMP"),
        "bmp palette": _encoded(palette, "BMP"),
        "bmp runs": _runs_bmp(),
        "tif plain": _encoded(color, "TIFF", exif=exif),
        "tif wide": _encoded(wide, "TIFF"),
        "tif real": _encoded(real, "TIFF"),
        "tif pages": _encoded(color, "TIFF", **frames),
        "ppm color": _encoded(color, "PPM"),
        "pgm wide": _encoded(wide, "PPM"),
        "pbm text": b"P1\n4 2\n0 1 0 1\n1 0 1 0\n",
        "ppm text": b"P3 2 2 255\n" + b" ".join(b"%d" % i for i in range(12)),
    }
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        made[f"tif {packing}"] = _encoded(color, "TIFF", compression=packing)
    if features.check("webp"):
        made["webp lossy"] = _encoded(color, "WEBP", exif=exif)
        made["webp clear"] = _encoded(clear, "WEBP", lossless=True)
        made["webp animated"] = _encoded(color, "WEBP", **frames)
    if features.check("jpg_2000"):
        made["jp2 boxes"] = _encoded(color, "JPEG2000")
        made["jp2 stream"] = _encoded(gray, "JPEG2000", no_jp2=True)
    if features.check("avif"):
        made["avif still"] = _encoded(color, "AVIF", speed=10)
    return made


def _encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _runs_bmp() -> bytes:
    """A run-length encoded 8-bit bitmap of 16x8, with an absolute run and ends of lines."""
    runs = b"\x05\x01\x00\x04\x01\x02\x03\x04\x07\x05\x00\x00" + b"\x10\x02\x00\x00" * 7 + b"\x00\x01"
    colors = b"".join(bytes((i, i, i, 0)) for i in range(256))
    sizes = struct.pack("<IiiHHIIiiII", 40, 16, 8, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(runs), 0, 0, 54 + 1024) + sizes + colors + runs


def _cut(chance: random.Random, form: str, whole: bytes) -> bytes:
    return whole[: chance.randrange(len(whole))]


def _flipped(chance: random.Random, form: str, whole: bytes) -> bytes:
    """Flip a few bits, most of them near the beginning, where the sizes are."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        end = len(content) if chance.random() < 0.5 else min(len(content), 300)
        content[chance.randrange(end)] ^= 1 << chance.randrange(8)
    return bytes(content)


def _overwritten(chance: random.Random, form: str, whole: bytes) -> bytes:
    """Overwrite a range with zeros, ones or noise."""
    start = chance.randrange(len(whole))
    length = chance.choice((1, 2, 4, 8, 100))
    filling = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
    return whole[:start] + filling + whole[start + length :]


def _spliced(chance: random.Random, form: str, whole: bytes) -> bytes:
    other = chance.choice(list(whole_files().values()))
    return whole[: chance.randrange(len(whole))] + other[chance.randrange(len(other)) :]


def _shifted(chance: random.Random, form: str, whole: bytes) -> bytes:
    """Insert or remove bytes, so that the rest of the file is shifted."""
    start = chance.randrange(len(whole))
    if chance.random() < 0.5:
        return whole[:start] + chance.randbytes(chance.choice((1, 3, 50))) + whole[start:]
    return whole[:start] + whole[start + chance.choice((1, 3, 50)) :]


def _beginning(chance: random.Random, form: str, whole: bytes) -> bytes:
    """The signature of a format, followed by noise."""
    return whole[: chance.choice((2, 4, 8, 12, 16, 30))] + chance.randbytes(chance.choice((0, 10, 1000)))


def _noise(chance: random.Random, form: str, whole: bytes) -> bytes:
    return chance.choice(
        (b"", bytes(500), chance.randbytes(500), b"a text\n" * 50, b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0")
    )


def _numbers(chance: random.Random, form: str, whole: bytes) -> bytes:
    """Set a two- or four-byte number of either byte order to a very large value."""
    width, order = chance.choice((2, 4)), chance.choice(("big", "little"))
    start = chance.randrange(min(len(whole), 400))
    large = chance.choice((0, 1, 2**15, 2**16 - 1, 10**5, 13_000, 2**24, 2**31 - 1, 2**32 - 1)) % 256**width
    return whole[:start] + large.to_bytes(width, order) + whole[start + width :]


def _huge(chance: random.Random, form: str, whole: bytes) -> bytes:
    """Let the header claim large sides, up to the accepted limit and beyond."""
    largest = ((16_000, 11_000), (178_956_970, 1))  # these take seconds
    refused = ((200_000, 200_000), (1, 178_956_971), (13_377, 13_378), (65_535, 65_535))
    width, height = chance.choice(
        largest if chance.random() < 0.05 else (*refused, (2000, 1000), (1, 10**6), (10**6, 1))
    )
    small = min(width, 65_535), min(height, 65_535)
    ending = form.split()[0]
    if ending == "png":
        header = b"IHDR" + struct.pack(">II", width, height) + whole[24:29]
        return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]
    if ending == "gif":
        return whole[:6] + struct.pack("<HH", *small) + whole[10:]
    if ending == "bmp":
        return whole[:18] + struct.pack("<ii", width, height) + whole[26:]
    if ending in ("ppm", "pgm"):
        magic, _, rest = whole.partition(b"\n" if form != "ppm text" else b" ")
        return magic + b"\n%d %d\n" % (width, height) + rest
    if ending == "jpg":
        place = max(whole.find(b"\xff\xc0"), whole.find(b"\xff\xc2"))
        return whole[: place + 5] + struct.pack(">HH", small[1], small[0]) + whole[place + 9 :]
    if ending == "tif":
        return _huge_tiff(whole, width, height)
    if ending == "jp2":
        place = whole.find(b"\xff\x51")
        return whole[: place + 6] + struct.pack(">II", width, height) + whole[place + 14 :]
    return _numbers(chance, form, whole)


def _huge_tiff(whole: bytes, width: int, height: int) -> bytes:
    """The tags 256 and 257 of the first directory, as four-byte numbers."""
    content = bytearray(whole)
    order = "<" if whole[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", whole, 4)
    (count,) = struct.unpack_from(f"{order}H", whole, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag = struct.unpack_from(f"{order}H", whole, place)[0]
        if tag in (256, 257):
            struct.pack_into(f"{order}HHII", content, place, tag, 4, 1, width if tag == 256 else height)
    return bytes(content)


_KINDS = {
    "truncated": _cut,
    "bits flipped": _flipped,
    "bytes overwritten": _overwritten,
    "two files spliced": _spliced,
    "bytes put in or taken out": _shifted,
    "noise after the beginning": _beginning,
    "no image": _noise,
    "a number made large": _numbers,
    "huge sides claimed": _huge,
}
