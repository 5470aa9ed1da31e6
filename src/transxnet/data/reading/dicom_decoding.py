"""Decode DICOM files with the package pydicom."""

from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.utils.optional_packages import require_package

_PREAMBLE = 132  # bytes before the first element


def decode_dicom(file: BinaryIO, check_shape: Callable[[Sequence[int]], None]) -> np.ndarray:
    """Decode a DICOM file to the unit of its header, such as Hounsfield units, in the window of its header.

    A window limits the values to its range and scales them; without one they are only in the unit. Values of
    MONOCHROME1, in which larger is darker, are negated.

    Args:
        file: the open file.
        check_shape: raises UnreadableImage for an array that is too large.

    Returns:
        (H, W), (H, W, 3) in RGB, or (frames, H, W).

    Raises:
        UnreadableImage: no image, a palette, or a compression that pydicom cannot decode.
        UserError: pydicom is not installed.
    """
    require_package("pydicom", "transxnet[channels]", "Reading DICOM files")
    import pydicom
    from pydicom.filereader import read_dataset
    from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    file.seek(_PREAMBLE)
    meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:  # pydicom would unpack any number of bytes
        raise UnreadableImage("a DICOM file compressed as a whole; save it uncompressed")
    file.seek(0)
    header: Any = pydicom.dcmread(file)
    if "PixelData" not in header and "FloatPixelData" not in header and "DoubleFloatPixelData" not in header:
        raise UnreadableImage("the DICOM file contains no image")
    kind = str(header.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        raise UnreadableImage("a DICOM image with a palette; convert it to RGB")
    frames, samples = int(header.get("NumberOfFrames", None) or 1), int(header.SamplesPerPixel)
    check_shape((frames, int(header.Rows), int(header.Columns), samples))
    values = pixel_array(header)
    if samples > 1:
        return values
    values = apply_voi_lut(apply_modality_lut(values, header), header)
    return -values.astype(np.float32) if kind == "MONOCHROME1" else values
