"""Traced modules give the outputs of the models."""

import pytest
import torch
from torchvision.transforms.v2.functional import normalize

from transxnet import create_model
from transxnet.deploy.export_graphs import ClassifierGraph, FeaturesGraph, InputNormalization, SegmenterGraph
from transxnet.heads import create_segmenter

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
