"""Broken TIFF, NPY and DICOM files: each is read or refused with a reason, in bounded memory and time."""

import io
import random

import numpy as np
import pytest

from tests.helpers.limited_process import outcome_table, run_limited
from transxnet.data.reading.channel_decoding import open_channels
from transxnet.data.reading.image_decoding import UnreadableImage

BANDS = np.random.default_rng(0).integers(0, 4096, (4, 33, 47), np.uint16)


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, BANDS)
    return file.getvalue()


def tiff(**options) -> bytes:
    file = io.BytesIO()
    pytest.importorskip("tifffile").imwrite(file, BANDS, photometric="minisblack", **options)
    return file.getvalue()


def dicom() -> bytes:
    pydicom = pytest.importorskip("pydicom")
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    header.NumberOfFrames, header.Rows, header.Columns = BANDS.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.WindowCenter, header.WindowWidth, header.RescaleSlope, header.RescaleIntercept = 2000, 900, 2, -10
    header.PixelData = BANDS.tobytes()
    header["PixelData"].VR = "OW"
    file = io.BytesIO()
    pydicom.dcmwrite(file, header, enforce_file_format=True)
    return file.getvalue()


def broken(number: int, whole: bytes) -> bytes:
    """Cut a file, or change bits, bytes or numbers of it, most of them near an end, where the headers are."""
    chance = random.Random(number)
    kind, content = number % 4, bytearray(whole)
    if kind == 0:
        return whole[: chance.randrange(len(whole))]
    for _ in range(chance.choice((1, 1, 2, 8))):
        near = min(len(content), 600)
        place = chance.choice((chance.randrange(near), len(content) - 1 - chance.randrange(near)))
        if kind == 1:
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            content[place : place + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", chance.randbytes(4)))
        else:
            large = chance.choice((0, 1, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1))
            content[place : place + 4] = large.to_bytes(4, "little")
    return bytes(content)


def outcome_of(content: bytes) -> str:
    try:
        pixels = open_channels(content, 4)
    except UnreadableImage as error:
        return ("refused: not enough memory" if "allocate" in str(error) else "refused") if str(error) else "no reason"
    assert pixels.shape[0] == 4 and pixels.isfinite().all()
    return "read"


@pytest.mark.parametrize("count", [60, pytest.param(3000, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "whole",
    [npy, tiff, lambda: tiff(planarconfig="separate", compression="zlib", predictor=True), dicom],
    ids=["npy", "tiff pages", "tiff deflate", "dicom"],
)
def test_every_broken_file_is_read_or_refused(whole, count):
    content = whole()
    cases = [broken(number, content) for number in range(count)]
    outcomes = run_limited(cases, outcome_of)
    print(f"\n{outcome_table(['broken'] * count, outcomes)}")
    assert set(outcomes) <= {"read", "refused", "refused: not enough memory"}
    assert outcomes.count("read") and outcomes.count("refused")
