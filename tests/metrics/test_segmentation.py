"""Segmentation metrics against torchmetrics, and against values counted by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.metrics.segmentation import (
    SegmentationMetric,
    class_metrics,
    class_pixels,
    confusion_matrix,
    segmentation_metrics,
)

NAMES = ["sky", "road", "tree", "never"]


def score(*pairs: tuple[np.ndarray, np.ndarray], names=NAMES):
    stems = [str(i) for i in range(len(pairs))]
    images = SegmentationSet(FileImages(stems), stems, list(names), stems, np.arange(256, dtype=np.uint8))
    metric = SegmentationMetric(images)
    for predicted, labels in pairs:
        metric.update(np.array(predicted, np.uint8), np.array(labels, np.uint8))
    return metric.compute()


def test_metrics_match_values_counted_by_hand():
    labels = [[0, 0, 0, 1, 255], [1, 1, 2, 2, 255]]
    predicted = [[0, 0, 1, 1, 0], [1, 2, 2, 2, 3]]
    evaluation = score((predicted, labels))
    assert evaluation.confusion.tolist() == [[2, 1, 0, 0], [0, 2, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    expected = {
        "miou": (2 / 3 + 2 / 4 + 2 / 3) / 3,  # "never" neither occurs nor is predicted on valid pixels
        "mean_accuracy": (2 / 3 + 2 / 3 + 1) / 3,
        "pixel_accuracy": 6 / 8,
    }
    assert evaluation.metrics() == pytest.approx(expected, abs=1e-12)
    per_class = evaluation.per_class()
    np.testing.assert_allclose(per_class["iou"], [2 / 3, 1 / 2, 2 / 3, np.nan], atol=1e-12, rtol=0)
    np.testing.assert_allclose(per_class["accuracy"], [2 / 3, 2 / 3, 1, np.nan], atol=1e-12, rtol=0)
    np.testing.assert_allclose(per_class["precision"], [1, 2 / 3, 2 / 3, np.nan], atol=1e-12, rtol=0)
    np.testing.assert_allclose(per_class["share"], [3 / 8, 3 / 8, 2 / 8, 0], atol=1e-12, rtol=0)


def test_class_that_is_only_predicted_has_an_iou_of_zero():
    """As in mmsegmentation: its IoU is 0 and it has no accuracy."""
    metrics = score(([[0, 3, 1]], [[0, 0, 1]])).metrics()
    assert metrics["miou"] == pytest.approx((1 / 2 + 1 + 0) / 3, abs=1e-12)
    assert metrics["mean_accuracy"] == pytest.approx((1 / 2 + 1) / 2, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_match_torchmetrics(seed):
    dice = np.random.default_rng(seed)
    pairs = []
    for _ in range(5):
        size = dice.integers(5, 40, 2)
        labels = dice.choice([0, 1, 2, 255], size, p=[0.5, 0.3, 0.1, 0.1])
        predicted = np.where(dice.random(size) < 0.7, np.minimum(labels, 2), dice.integers(0, 3, size))
        pairs.append((predicted, labels))
    evaluation = score(*pairs, names=NAMES[:3])
    predicted, true = (torch.from_numpy(np.concatenate([pair[k].ravel() for pair in pairs])) for k in (0, 1))
    for name, metric in {
        "miou": MulticlassJaccardIndex(3, ignore_index=255),
        "mean_accuracy": MulticlassAccuracy(3, average="macro", ignore_index=255),
        "pixel_accuracy": MulticlassAccuracy(3, average="micro", ignore_index=255),
    }.items():
        assert evaluation.metrics()[name] == pytest.approx(metric(predicted, true).item(), abs=1e-6), name
    iou = MulticlassJaccardIndex(3, average="none", ignore_index=255)(predicted, true)
    np.testing.assert_allclose(evaluation.per_class()["iou"], iou, atol=1e-6, rtol=0)


def test_images_add_up_by_pixels_and_have_their_own_miou():
    large, small = (np.zeros((20, 20)), np.zeros((20, 20))), ([[1, 0]], [[1, 1]])
    evaluation = score(large, small)
    assert evaluation.metrics()["pixel_accuracy"] == pytest.approx(401 / 402, abs=1e-12)
    np.testing.assert_allclose(evaluation.image_miou, [1, (0 + 1 / 2) / 2], atol=1e-12, rtol=0)
    assert (evaluation.image_counts.sum(0) == class_pixels(evaluation.confusion)).all()
    assert evaluation.predicted(1).tolist() == [[1, 0]]
    assert evaluation.predicted(0).shape == (20, 20)


def test_without_labeled_pixels_there_are_no_metrics():
    evaluation = score(([[0, 1]], [[255, 255]]))
    assert evaluation.metrics() == {}
    assert np.isnan(evaluation.image_miou).all()
    assert all(np.isnan(value) for value in segmentation_metrics(class_pixels(evaluation.confusion)).values())
    both = score(([[0, 1]], [[255, 255]]), ([[0, 1]], [[0, 0]]))
    assert both.metrics()["pixel_accuracy"] == pytest.approx(0.5, abs=1e-12)


def test_single_class_is_always_correct():
    evaluation = score((np.zeros((3, 4)), np.zeros((3, 4))), names=["all"])
    assert evaluation.metrics() == {"miou": 1, "mean_accuracy": 1, "pixel_accuracy": 1}
    confusion = confusion_matrix(np.zeros(4, np.uint8), np.zeros(4, np.uint8), 1)
    assert class_metrics(class_pixels(confusion))["iou"].tolist() == [1]


def test_confusion_matrix_matches_scikit_learn():
    dice = np.random.default_rng(0)
    labels, predicted = (dice.integers(0, 5, (30, 40)).astype(np.uint8) for _ in range(2))
    labels[:3] = 255
    expected = sklearn_confusion_matrix(labels[3:].ravel(), predicted[3:].ravel(), labels=range(5))
    np.testing.assert_array_equal(confusion_matrix(predicted, labels, 5), expected)


def test_resampled_metrics_are_those_of_the_drawn_images():
    dice = np.random.default_rng(0)
    pairs = [tuple(dice.integers(0, 3, (2, 5, 6)).astype(np.uint8)) for _ in range(4)]
    drawn = [0, 2, 2, 3]
    expected = score(*(pairs[i] for i in drawn), names=list("abc")).metrics()
    assert score(*pairs, names=list("abc")).resampler()(np.array(drawn)) == pytest.approx(expected)
