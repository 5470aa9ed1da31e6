"""Reading exported files."""

import pkgutil
import sys

import pytest

from tests.helpers.exports import SUFFIX, random_images
from transxnet import UserError, load_exported, read_metadata
from transxnet.deploy.export import export


@pytest.mark.parametrize(
    ("format", "reader"),
    [
        ("onnx", "onnxruntime.InferenceSession"),
        pytest.param("openvino", "read_model", marks=pytest.mark.long),
    ],
)
def test_load_reads_a_file_once_by_its_runtime_alone(theirs, tmp_path, console, monkeypatch, format, reader):
    file = export(theirs.path, format=format, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    metadata = read_metadata(file)
    for package in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    target = reader if "." in reader else f"transxnet.deploy.format_{format}.{reader}"
    read, reads = pkgutil.resolve_name(target), []
    monkeypatch.setattr(target, lambda *args, **options: reads.append(args) or read(*args, **options))
    exported = load_exported(file)
    assert exported.metadata == metadata
    assert exported(random_images(2, 64, 64)).shape == (2, 3)
    assert len(reads) == 1
    if format == "onnx":
        match = r"needs the package onnx\. Install it with: pip install 'transxnet\[export\]'"
        with pytest.raises(UserError, match=match):
            read_metadata(file)
