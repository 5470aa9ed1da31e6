"""Files that are not exported models."""

import onnx
import pytest

from transxnet import UserError, load_exported, read_metadata


def test_other_files_are_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    (tmp_path / "bad.pt2").write_bytes(b"no model")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), str(tmp_path / "strange.onnx"))
    for name, message in {
        "bad.onnx": "cannot read .* as an ONNX file",
        "bad.pt2": "cannot read .* as a .pt2 package",
        "strange.onnx": "cannot read the metadata",
        "missing.onnx": "does not exist",
        "run.ckpt": "is not an exported model. Accepted: files that end in .onnx, .xml, .pt2, .pte, .ncnn.param",
    }.items():
        with pytest.raises(UserError, match=message):
            read_metadata(tmp_path / name)
        with pytest.raises(UserError, match="cannot read .* as an ONNX file" if name == "strange.onnx" else message):
            load_exported(tmp_path / name)
