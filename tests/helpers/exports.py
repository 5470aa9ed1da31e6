"""Images for exported files, and the tolerance of their outputs."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tests.helpers.classifier_runs import draw
from transxnet.deploy.metadata import Metadata
from transxnet.heads import create_detector

CLASSES = ["ant", "bee", "cat"]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2", "executorch": ".pte", "ncnn": ".ncnn.param"}


def random_images(count: int, *size: int) -> Tensor:
    """Images that differ, also in their mean values."""
    dice = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, *size, generator=dice) + torch.randn(count, 3, 1, 1, generator=dice)


def photo(height: int, width: int) -> Image.Image:
    """A smooth random image."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 7 + 2, width // 7 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@torch.no_grad()
def mask_rcnn(**options: Any) -> nn.Module:
    """A Mask R-CNN that finds objects of all classes everywhere."""
    model = draw(create_detector("maskrcnn", "test_resnet", 3, **options))
    dice = torch.Generator().manual_seed(0)
    heads = model.roi_heads
    for layer in (model.rpn.head.cls_logits, heads.mask_predictor.mask_fcn_logits):
        layer.weight.normal_(std=0.1, generator=dice)
    # Larger ones would make slivers at the border with equal scores, of which rounding chooses one.
    model.rpn.head.bbox_pred.weight.normal_(std=0.02, generator=dice)
    heads.box_predictor.cls_score.weight.normal_(std=0.06, generator=dice)
    heads.box_predictor.cls_score.bias.zero_()
    return model


def assert_near(actual: Tensor, truth: Tensor, rel: float = 1e-4) -> None:
    """Compare relative to the largest value, as the export command does."""
    torch.testing.assert_close(actual, truth, rtol=0, atol=rel * truth.abs().max().item())


def described(**changes: Any) -> Metadata:
    """Metadata of a classifier of two classes for 32x32 images, with changes."""
    values: dict[str, Any] = dict(
        task="classify",
        model="net",
        source="run",
        class_names=["a", "b"],
        input="float32",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        size=(32, 32),
        batch=0,
        dynamic=(),
        resize={"img_size": 32, "crop_pct": 1.0, "interpolation": "bicubic"},
        outputs=("logits",),
        score_threshold=0.0,
        dtype="float32",
        versions={"transxnet": "0.1.0"},
    )
    return Metadata(**{**values, **changes})
