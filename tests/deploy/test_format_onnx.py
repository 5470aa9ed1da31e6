"""ONNX files as seen by other tools."""

import pytest
import torch
from torch import nn

from transxnet.deploy.export_graphs import InputNormalization
from transxnet.deploy.format_onnx import OnnxFormat
from transxnet.deploy.trace import example_images, trace
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


@pytest.mark.parametrize("uint8", [False, True])
def test_dynamic_axes_are_batch_height_and_width(tmp_path, uint8):
    axes = ("batch", "height", "width")
    graph = nn.Sequential(InputNormalization((0.5,) * 3, (0.5,) * 3, uint8, torch.float32), nn.Conv2d(3, 4, 2, 2))
    program = trace(graph, example_images((64, 64), 1, uint8, axes), axes)
    OnnxFormat().write(program, ["y"], {}, "float32", tmp_path / "a.onnx")
    graph = onnx.load(str(tmp_path / "a.onnx")).graph
    images, y = (
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (graph.input[0], graph.output[0])
    )
    assert images == (["batch", "height", "width", 3] if uint8 else ["batch", 3, "height", "width"])
    assert y == ["batch", 4, "height/2", "width/2"]


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    for read in (OnnxFormat().read_texts, OnnxFormat().load):
        with pytest.raises(UserError, match=r"cannot read .* as an ONNX file"):
            read(tmp_path / "a.onnx")
