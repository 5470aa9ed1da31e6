"""Small trained classifier, detector and segmenter for explanations."""

import pytest

from transxnet import TransXNetFeatures, create_model
from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.heads import RetinaNet, SemanticFPN
from transxnet.runs.trained_models import TrainedClassifier, TrainedDetector, TrainedSegmenter


@pytest.fixture
def body():
    """Make the smallest dense backbone with the given outputs."""

    def make(*out_indices: int) -> TransXNetFeatures:
        size = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=64)
        return TransXNetFeatures(out_indices, **size)

    return make


@pytest.fixture
def classifier() -> TrainedClassifier:
    model = create_model("test_resnet", num_classes=3).eval()
    return TrainedClassifier(model, "test_resnet", ["cat", "dog", "owl"], None, Preprocessing.of_model(model, 64))


@pytest.fixture
def detector(body) -> TrainedDetector:
    model = RetinaNet(body(1, 2, 3), num_classes=2, min_size=64, max_size=96, score_thresh=0.0).eval()
    return TrainedDetector(model, "retinanet", ["cat", "dog"], None)


@pytest.fixture
def segmenter(body) -> TrainedSegmenter:
    return TrainedSegmenter(SemanticFPN(body(0, 1, 2, 3), 3).eval(), "fpn", ["sky", "sea", "sand"], None, (64, 64))
