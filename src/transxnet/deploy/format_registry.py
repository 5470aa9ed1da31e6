"""Export formats by name and file extension, and the metadata of exported files."""

from pathlib import Path

from transxnet.deploy.export_format import ExportFormat
from transxnet.deploy.format_executorch import ExecuTorchFormat
from transxnet.deploy.format_ncnn import NcnnFormat
from transxnet.deploy.format_onnx import OnnxFormat
from transxnet.deploy.format_openvino import OpenVinoFormat
from transxnet.deploy.format_pt2 import Pt2Format
from transxnet.deploy.format_web import WebFormat
from transxnet.deploy.metadata import Metadata, parse_metadata
from transxnet.utils.errors import UserError

FORMATS: dict[str, ExportFormat] = {
    "onnx": OnnxFormat(),
    "openvino": OpenVinoFormat(),
    "pt2": Pt2Format(),
    "executorch": ExecuTorchFormat(),
    "ncnn": NcnnFormat(),
    "web": WebFormat(),
}

_FILES = [each for each in FORMATS.values() if each.suffix]
"""Formats of single files, which can be opened again."""


def read_metadata(path: str | Path) -> Metadata:
    """Read the metadata of an exported file.

    Args:
        path: an ONNX file, an OpenVINO model's .xml, a .pt2 package, a .pte program, or an ncnn model's .param.

    Raises:
        UserError: the file does not exist, is of another kind, or was not exported by this package.
    """
    path = Path(path)
    return parse_metadata(path, find_format(path).read_texts(path))


def find_format(path: Path) -> ExportFormat:
    """Find the format of a file by its extension.

    Raises:
        UserError: the file does not exist, or has another extension.
    """
    found = next((each for each in _FILES if path.name.endswith(each.suffix)), None)
    if found is None:
        endings = ", ".join(each.suffix for each in _FILES)
        raise UserError(f"{path} is not an exported model. Accepted: files that end in {endings}.")
    if not path.is_file():
        raise UserError(f"{path} does not exist.")
    return found


def is_exported(target: str | Path) -> bool:
    """Whether this is an existing file with the extension of an export format."""
    path = Path(target)
    return path.is_file() and any(path.name.endswith(each.suffix) for each in _FILES)
