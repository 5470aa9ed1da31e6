"""Traced modules give the outputs of the models."""

import pytest
import torch
from torchvision.transforms.v2.functional import normalize

from tests.helpers.classifier_runs import draw
from transxnet import create_model
from transxnet.deploy.export_graphs import (
    ClassifierGraph,
    DetectorGraph,
    FeaturesGraph,
    InputNormalization,
    SegmenterGraph,
)
from transxnet.heads import create_detector, create_segmenter

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture
def plain() -> InputNormalization:
    return InputNormalization((0.0,) * 3, (1.0,) * 3, False, torch.float32)


def test_uint8_input_is_normalized():
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    truth = normalize(images.permute(0, 3, 1, 2) / 255, MEAN, STD)
    actual = InputNormalization(MEAN, STD, True, torch.float32)(images)
    torch.testing.assert_close(actual, truth, rtol=0, atol=1e-5)


def test_float_input_is_only_cast():
    images = torch.randn(2, 3, 4, 5)
    assert torch.equal(InputNormalization(MEAN, STD, False, torch.float16)(images), images.half())


@torch.no_grad()
def test_classifier_features_and_segmenter_give_float32(plain):
    network, images = create_model("test_resnet", num_classes=3).eval(), torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(ClassifierGraph(plain, network)(images), network(images))
    maps = network.forward_intermediates(images, intermediates_only=True)
    torch.testing.assert_close(list(FeaturesGraph(plain, network)(images)), maps)
    segmenter = create_segmenter("test_resnet", 3).eval()
    torch.testing.assert_close(SegmenterGraph(plain, segmenter)(images), segmenter(images))


@torch.no_grad()
def test_detector_gives_a_fixed_number_of_detections(plain):
    model = draw(create_detector("retinanet", "test_resnet", 3, min_size=64, max_size=96))
    model.score_thresh = 0.0
    model.head.classification_head.cls_logits.weight.normal_(std=0.3)
    image = torch.rand(1, 3, 64, 96)
    boxes, labels, scores = DetectorGraph(plain, model).eval()(image)
    assert boxes.shape == (model.detections_per_img, 4)
    (truth,) = model(list(image))
    count = len(truth["scores"])
    assert count > 10
    torch.testing.assert_close(scores[:count], truth["scores"], rtol=0, atol=1e-5)
    torch.testing.assert_close(boxes[:count], truth["boxes"], rtol=0, atol=1e-3)
    assert labels[:count].tolist() == truth["labels"].tolist()
    assert not scores[count:].any()


@torch.no_grad()
def test_boxes_without_area_rank_after_all_others(plain):
    """All boxes lie 100 anchor widths to the right, outside of the image."""
    model = draw(create_detector("retinanet", "test_resnet", 3, min_size=64, max_size=96))
    model.head.classification_head.cls_logits.bias.fill_(9)
    graph = DetectorGraph(plain, model).eval()
    assert graph(torch.rand(1, 3, 64, 96))[2].min() > 0.9
    graph.head.regression_head.bbox_reg.bias.view(-1, 4)[:, 0] = 100
    assert not graph(torch.rand(1, 3, 64, 96))[2].any()
