"""The export command: its report, its options, and the files left after a failure."""

import errno
import json
import os

import onnx
import pytest
import torch

import transxnet
from tests.helpers.exports import CLASSES, SUFFIX
from transxnet import UserError, load_exported, read_metadata
from transxnet.deploy import export as exporting
from transxnet.deploy.export import export
from transxnet.deploy.exportable_model import ExportableModel
from transxnet.deploy.format_onnx import OnnxFormat
from transxnet.runs.load import load_model
from transxnet.utils.files import WriteError


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_file_has_metadata_and_the_command_reports(theirs, photos, tmp_path, console, format):
    file = export(theirs.path, format=format, out=tmp_path / f"net{SUFFIX[format]}", console=console)
    metadata, exported = read_metadata(file), load_exported(file)
    assert exported.metadata == metadata
    assert metadata.class_names == CLASSES
    assert metadata.preprocessing == load_model(theirs.path).preprocessing
    assert (metadata.task, metadata.model, metadata.source) == ("classify", "test_resnet", str(theirs.path))
    assert (metadata.size, metadata.batch, metadata.dynamic) == ((64, 64), 0, ("batch",))
    assert metadata.versions["transxnet"] == transxnet.__version__
    assert metadata.versions["opset"] == "20"
    output = console.file.getvalue()
    assert f"verified on images of the validation set of {photos}" in output
    assert "verified at batch size 7, 64x64: maximum absolute difference" in output
    assert "same class 100.0%" in output
    if format == "onnx":
        model = onnx.load(str(file))
        onnx.checker.check_model(model, full_check=True)
        assert json.loads({p.key: p.value for p in model.metadata_props}["transxnet.class_names"]) == CLASSES
        assert [i.version for i in model.opset_import if not i.domain] == [20]
        assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "logits"]


def test_file_that_differs_from_the_model_is_not_written(theirs, tmp_path, console, monkeypatch):
    reference = ExportableModel.reference_outputs
    monkeypatch.setattr(ExportableModel, "reference_outputs", lambda *args: tuple(1.001 * x for x in reference(*args)))
    with pytest.raises(
        UserError, match=r"the exported file differ from PyTorch by .* at batch size \d, 64x64: .* Nothing was written"
    ):
        export(theirs.path, out=tmp_path / "net.onnx", console=console)
    assert not list(tmp_path.iterdir())


def test_mismatch_keeps_the_existing_file(theirs, tmp_path, console, monkeypatch):
    (tmp_path / "net.onnx").write_text("before")
    monkeypatch.setattr(ExportableModel, "reference_outputs", lambda self, x: (torch.full((len(x), 3), torch.nan),))
    with pytest.raises(UserError, match="differ from PyTorch"):
        export(theirs.path, out=tmp_path / "net.onnx", overwrite=True, console=console)
    assert (tmp_path / "net.onnx").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dtype="bfloat16"), "dtype must be 'float32' or 'float16' for --format onnx, got 'bfloat16'"),
        (
            dict(format="tflite"),
            "format must be 'onnx' or 'openvino' or 'pt2' or 'executorch' or 'ncnn' or 'web', got 'tflite'",
        ),
        (dict(dynamic="batch,heigth"), "dynamic must be some of batch, height, width, or none, got 'heigth'. Did you"),
        (dict(img_size="20"), "at least 32, got"),
        (dict(img_size=72, dynamic="height"), "height must be a multiple of 32 here, got 72"),
        (dict(batch_size=0), "batch_size must be an integer of at least 1, got 0"),
        (dict(out="net.bin"), "--out must end in .onnx for --format onnx, got net.bin"),
        (dict(int8=True, format="pt2"), "--int8 requires --format onnx or openvino"),
        (dict(int8=True, img_size="64x96"), "--int8 supports classifiers of square images only, got --img-size 64x96"),
        (dict(data="nowhere"), "'nowhere' does not exist"),
    ],
    ids=str,
)
def test_invalid_options_are_refused(theirs, tmp_path, console, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        export(theirs.path, console=console, **options)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_existing_files_are_not_overwritten(theirs, tmp_path, console):
    (tmp_path / "net.xml").write_text("mine")
    with pytest.raises(UserError, match=r"net.xml already exists. Use --overwrite"):
        export(theirs.path, format="openvino", out=tmp_path / "net.xml", console=console)


def test_read_only_folder_is_an_error_before_computing(theirs, tmp_path, console, monkeypatch):
    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), args[0])

    monkeypatch.setattr(os, "mkdir", read_only)
    monkeypatch.setattr(exporting, "prepare_export", lambda *args, **kwargs: pytest.fail("it was computed"))
    with pytest.raises(WriteError, match=r"cannot write .*net\.onnx: Read-only file system\. Make the folder"):
        export(theirs.path, out=tmp_path / "net.onnx", console=console)


def test_full_disk_is_an_error_and_leaves_nothing(theirs, tmp_path, console, monkeypatch):
    def full(self, program, outputs, texts, dtype, path):
        path.write_bytes(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(OnnxFormat, "write", full)
    with pytest.raises(WriteError, match=r"cannot write .*net\.onnx: No space left on device\. Free some disk space"):
        export(theirs.path, out=tmp_path / "net.onnx", console=console)
    assert not list(tmp_path.iterdir())
