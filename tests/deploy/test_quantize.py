"""The accuracy that remains in int8."""

import pytest
import torch

from tests.helpers.exports import SUFFIX, random_images
from transxnet import UserError, load_exported, read_metadata
from transxnet.deploy.export import export
from transxnet.runs.load import load_model

pytest.importorskip("nncf")


@pytest.mark.long
@pytest.mark.parametrize("format", ["onnx", "openvino"])
@pytest.mark.parametrize("run", ["theirs", "ours"])
def test_int8_keeps_the_accuracy(run, format, request, tmp_path, console):
    run, out = request.getfixturevalue(run), tmp_path / f"net{SUFFIX[format]}"
    file = export(run.path, format=format, int8=True, allow_accuracy_drop=100, out=out, console=console)
    assert read_metadata(file).dtype == "int8"
    output = console.file.getvalue()
    assert "validation images" in output
    assert "convolutions and matrix products in int8" in output
    assert " 0 of " not in output
    x = random_images(7, 64, 64)
    both = torch.stack([load_exported(file)(x).flatten(), load_model(run.path).model(x).detach().flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95


def test_int8_needs_labeled_images(tmp_path, console):
    with pytest.raises(UserError, match=r"needs labeled images for calibration and validation. Use --data"):
        export("test_resnet@untrained", int8=True, img_size=64, out=tmp_path / "net.xml", console=console)
    assert not list(tmp_path.iterdir())
