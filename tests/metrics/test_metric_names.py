"""Every metric of the three tasks has a name."""

import numpy as np
import pytest
import torch

from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.detection import CocoMetric, coco_metrics
from transxnet.metrics.metric_names import METRIC_NAMES
from transxnet.metrics.segmentation import class_pixels, segmentation_metrics


def test_classification_metrics_are_named():
    probabilities = np.eye(6, dtype=np.float32)
    evaluation = ClassificationEvaluation(list("abcdef"), list("uvwxyz"), np.arange(6), probabilities, np.ones(6))
    metrics = evaluation.metrics()
    assert {"accuracy", "top5_accuracy", "weighted_accuracy"} < set(metrics) < set(METRIC_NAMES)


def test_segmentation_metrics_are_named():
    metrics = segmentation_metrics(class_pixels(np.eye(2)))
    assert "miou" in metrics and set(metrics) < set(METRIC_NAMES)


@pytest.mark.parametrize("masks", [False, True])
def test_detection_metrics_are_named(masks):
    metric = CocoMetric(masks)
    target = {"boxes": torch.tensor([[1.0, 2, 9, 8]]), "labels": torch.tensor([1]), "masks": torch.ones(1, 9, 9)}
    metric.update([target | {"scores": torch.tensor([0.5])}], [target])
    metrics = coco_metrics(metric.compute(), masks)
    assert len(metrics) == (12 if masks else 6) and set(metrics) < set(METRIC_NAMES)


def test_names_align_in_the_printed_table():
    assert max(map(len, METRIC_NAMES.values())) <= 46
