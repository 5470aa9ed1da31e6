import pytest

from transxnet.heads import create_detector, create_segmenter
from transxnet.runs.trained_models import TrainedDetector, TrainedSegmenter


@pytest.fixture(scope="module")
def detector():
    return create_detector("retinanet", "test_resnet", 2)


def test_detections_have_the_labels_as_ids_by_default(detector):
    assert TrainedDetector(detector, "d", ["a", "b"], None).category_ids == [1, 2]
    assert TrainedDetector(detector, "d", ["a", "b"], None, category_ids=[7, 3]).category_ids == [7, 3]


def test_backbone_is_below_the_pyramid_with_its_preprocessing(detector):
    trained = TrainedDetector(detector, "d", ["a", "b"], None)
    assert trained.backbone is detector.backbone.body and not trained.masks
    assert trained.backbone_preprocessing.channels is None
    of_channels = create_segmenter("test_resnet", 2, mean=[1.0] * 4, std=[2.0] * 4)
    trained = TrainedSegmenter(of_channels, "s", ["a", "b"], None, (64, 32), channels=4)
    preprocessing = trained.backbone_preprocessing
    assert (preprocessing.channels, preprocessing.mean, preprocessing.std) == (4, (1.0,) * 4, (2.0,) * 4)
