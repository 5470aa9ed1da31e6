"""Models prepared for export, and models that cannot be exported."""

import pytest
import torch

from tests.helpers.classifier_runs import write_run
from tests.helpers.exports import CLASSES, assert_near, random_images
from transxnet import UserError, load_exported, read_metadata
from transxnet.deploy.export import export
from transxnet.heads import create_detector
from transxnet.runs.load import load_model


@pytest.mark.long
@torch.no_grad()
def test_features_are_the_outputs_of_the_stages(ours, tmp_path, console):
    file = export(ours.path, features=True, format="openvino", out=tmp_path / "maps.xml", console=console)
    x = random_images(2, 64, 64)
    truth = load_model(ours.path).model.forward_intermediates(x, intermediates_only=True)
    assert read_metadata(file).outputs == ("stride4", "stride8", "stride16", "stride32")
    for actual, expected in zip(load_exported(file)(x), truth, strict=True):
        assert_near(actual, expected)


def test_mask_rcnn_is_refused_with_the_reason(photos, tmp_path, console):
    model = create_detector("maskrcnn", "test_resnet", 3, min_size=32, max_size=64)
    args = dict(head="maskrcnn", min_size=32, max_size=64)
    described = dict(architecture="test_resnet", class_names=CLASSES, preprocessing={}, model_args=args)
    run = write_run(tmp_path / "run", model, photos, task="detect", **described)
    with pytest.raises(UserError, match=r"cannot export .*: Mask R-CNN has a data-dependent number of regions"):
        export(run.path, out=tmp_path / "net.onnx", console=console)
