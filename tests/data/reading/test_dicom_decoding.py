"""DICOM files: units, windows, frames, and files that are refused."""

import io

import numpy as np
import pytest

from transxnet.data.reading.channel_decoding import open_channels
from transxnet.data.reading.image_decoding import UnreadableImage

pydicom = pytest.importorskip("pydicom")
STORED = np.random.default_rng(0).integers(0, 4096, (6, 7), np.uint16)


def dicom(
    values: np.ndarray = STORED, syntax: str = "1.2.840.10008.1.2.1", drop: tuple[str, ...] = (), **tags
) -> bytes:
    """A file of 12-bit values (H, W) or (frames, H, W), or 8-bit RGB."""
    color = values.shape[-1] == 3
    frames = values.shape[0] if values.ndim == 3 and not color else 1
    height, width = values.shape[:2] if color or values.ndim == 2 else values.shape[1:]
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    header.Rows, header.Columns, header.NumberOfFrames = height, width, frames
    header.SamplesPerPixel, header.PhotometricInterpretation = (3, "RGB") if color else (1, "MONOCHROME2")
    if color:
        header.PlanarConfiguration = 0
    header.BitsAllocated, header.BitsStored = (8, 8) if color else (16, 12)
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, 0
    data = values.tobytes()
    header.PixelData = data + b"\0" * (len(data) % 2)
    header["PixelData"].VR = "OB" if color else "OW"
    for name, value in tags.items():
        setattr(header, name, value)
    for name in drop:
        delattr(header, name)
    file = io.BytesIO()
    pydicom.dcmwrite(file, header, enforce_file_format=True)
    return file.getvalue()


def test_values_are_in_the_unit_of_the_header():
    read = open_channels(dicom(RescaleSlope=2, RescaleIntercept=-1024), 1)
    np.testing.assert_array_equal(read[0].numpy(), STORED * 2.0 - 1024)


def test_values_without_unit_and_window_are_as_stored():
    np.testing.assert_array_equal(open_channels(dicom(), 1)[0].numpy(), STORED)


def test_window_of_the_header_limits_and_orders_the_values():
    read = open_channels(dicom(WindowCenter=2000, WindowWidth=1000), 1)[0].numpy()
    assert (read[STORED <= 1500] == read.min()).all()
    assert (read[STORED >= 2500] == read.max()).all()
    inside = (STORED > 1500) & (STORED < 2499)
    assert np.array_equal(np.argsort(STORED[inside]), np.argsort(read[inside]))


def test_inverted_grayscale_is_negated():
    read = open_channels(dicom(PhotometricInterpretation="MONOCHROME1"), 1)
    np.testing.assert_array_equal(read[0].numpy(), -STORED.astype(np.float32))


def test_frames_and_colors_are_channels():
    frames = np.stack([STORED, STORED // 2])
    np.testing.assert_array_equal(open_channels(dicom(frames), 2).numpy(), frames)
    color = (STORED[..., None] % np.array([256, 100, 50])).astype(np.uint8)
    np.testing.assert_array_equal(open_channels(dicom(color), 3).numpy(), color.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: dicom(syntax="1.2.840.10008.1.2.1.99"), "compressed as a whole"),
        (lambda: dicom(drop=("PixelData",)), "contains no image"),
        (lambda: dicom(drop=("Rows",)), "Rows"),
        (lambda: dicom(PhotometricInterpretation="PALETTE COLOR"), "palette"),
        (lambda: dicom(NumberOfFrames=2_000_000_000), "decompression bomb"),
        (lambda: dicom()[:-40], "."),
        (lambda: bytes(128) + b"DICM", "."),
    ],
)
def test_unusable_file_is_refused_with_the_reason(content, reason):
    with pytest.raises(UnreadableImage, match=reason):
        open_channels(content(), 1)
