"""OpenVINO models, which consist of two files."""

import pytest
import torch
from torch import nn

from tests.helpers.exports import described
from transxnet.deploy.format_openvino import OpenVinoFormat, read_model
from transxnet.deploy.trace import trace
from transxnet.utils.errors import UserError

pytest.importorskip("openvino")


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-2), ("bfloat16", 5e-2)])
def test_model_keeps_texts_and_gives_the_outputs(tmp_path, dtype, tolerance):
    conv, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    path, texts = tmp_path / "a.xml", described(model="nét", class_names=["a", "polar bear"]).to_texts()
    OpenVinoFormat().write(trace(conv, x, ()), ["y"], texts, dtype, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    assert OpenVinoFormat().read_texts(path) == texts
    assert read_model(path).get_rt_info(["model_info", "labels"]).astype(str) == "a polar_bear"
    (out,) = OpenVinoFormat().open(path, dtype, threads=1)(x)
    torch.testing.assert_close(out, conv(x), rtol=0, atol=tolerance)


def test_publish_moves_both_files(tmp_path):
    (tmp_path / "made").mkdir()
    for name in ("a.xml", "a.bin"):
        (tmp_path / "made" / name).write_text(name)
    OpenVinoFormat().publish(tmp_path / "made" / "a.xml", tmp_path / "b.xml")
    assert (tmp_path / "b.xml").read_text() == "a.xml"
    assert (tmp_path / "b.bin").read_text() == "a.bin"
    assert not list((tmp_path / "made").iterdir())


def test_a_model_without_weights_is_refused(tmp_path):
    (tmp_path / "a.xml").touch()
    with pytest.raises(UserError, match=r"a\.bin is missing: an OpenVINO model consists of"):
        OpenVinoFormat().load(tmp_path / "a.xml")
