"""ONNX files as seen by other tools."""

import pytest
import torch
from torch import nn

from transxnet.deploy.format_onnx import OnnxFormat
from transxnet.deploy.trace import trace
from transxnet.utils.errors import UserError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@torch.no_grad()
def test_file_passes_the_checker_and_has_names_and_texts(tmp_path):
    conv, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    OnnxFormat().write(trace(conv, x, ("batch",)), ["y"], {"transxnet.model": "nét"}, "float32", tmp_path / "a.onnx")
    model = onnx.load(str(tmp_path / "a.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["images", "y"]
    assert OnnxFormat().read_texts(tmp_path / "a.onnx") == {"transxnet.model": "nét"}
    (out,) = OnnxFormat().open(tmp_path / "a.onnx", "float32", threads=1)(x[:1])
    torch.testing.assert_close(out, conv(x[:1]), rtol=0, atol=1e-5)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    for read in (OnnxFormat().read_texts, OnnxFormat().load):
        with pytest.raises(UserError, match=r"cannot read .* as an ONNX file"):
            read(tmp_path / "a.onnx")
