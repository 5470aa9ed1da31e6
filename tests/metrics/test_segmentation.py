"""A segmenter's figures against torchmetrics, and against what one counts by hand."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.metrics.segmentation import SegmentationScore, class_figures, confusion, segmentation_figures

NAMES = ["sky", "road", "tree", "never"]


def score(*pairs: tuple[np.ndarray, np.ndarray], names=NAMES):
    stems = [str(i) for i in range(len(pairs))]
    images = SegmentationSet(FileImages(stems), stems, list(names), stems, np.arange(256, dtype=np.uint8))
    result = SegmentationScore(images)
    for predicted, labels in pairs:
        result.update(np.array(predicted, np.uint8), np.array(labels, np.uint8))
    return result.result()


def test_the_figures_are_those_that_are_counted_by_hand():
    labels = [[0, 0, 0, 1, 255], [1, 1, 2, 2, 255]]
    predicted = [[0, 0, 1, 1, 0], [1, 2, 2, 2, 3]]
    evaluation = score((predicted, labels))
    assert evaluation.confusion.tolist() == [[2, 1, 0, 0], [0, 2, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    expected = {
        "miou": (2 / 3 + 2 / 4 + 2 / 3) / 3,  # "never" neither occurs nor is predicted where it counts
        "mean_accuracy": (2 / 3 + 2 / 3 + 1) / 3,
        "pixel_accuracy": 6 / 8,
    }
    assert evaluation.metrics() == pytest.approx(expected, abs=1e-12)
    figures = evaluation.per_class()
    np.testing.assert_allclose(figures["iou"], [2 / 3, 1 / 2, 2 / 3, np.nan], atol=1e-12, rtol=0)
    np.testing.assert_allclose(figures["accuracy"], [2 / 3, 2 / 3, 1, np.nan], atol=1e-12, rtol=0)
    np.testing.assert_allclose(figures["precision"], [1, 2 / 3, 2 / 3, np.nan], atol=1e-12, rtol=0)
    np.testing.assert_allclose(figures["share"], [3 / 8, 3 / 8, 2 / 8, 0], atol=1e-12, rtol=0)


def test_a_class_that_is_only_predicted_counts_as_missed_wholly():
    """As in mmsegmentation: its IoU is 0, and it has no accuracy."""
    figures = score(([[0, 3, 1]], [[0, 0, 1]])).metrics()
    assert figures["miou"] == pytest.approx((1 / 2 + 1 + 0) / 3, abs=1e-12)
    assert figures["mean_accuracy"] == pytest.approx((1 / 2 + 1) / 2, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_figures_are_those_of_torchmetrics(seed):
    dice = np.random.default_rng(seed)
    pairs = []
    for _ in range(5):
        size = dice.integers(5, 40, 2)
        labels = dice.choice([0, 1, 2, 255], size, p=[0.5, 0.3, 0.1, 0.1])
        predicted = np.where(dice.random(size) < 0.7, np.minimum(labels, 2), dice.integers(0, 3, size))
        pairs.append((predicted, labels))
    evaluation = score(*pairs, names=NAMES[:3])
    said, true = (torch.from_numpy(np.concatenate([pair[k].ravel() for pair in pairs])) for k in (0, 1))
    for name, metric in {
        "miou": MulticlassJaccardIndex(3, ignore_index=255),
        "mean_accuracy": MulticlassAccuracy(3, average="macro", ignore_index=255),
        "pixel_accuracy": MulticlassAccuracy(3, average="micro", ignore_index=255),
    }.items():
        assert evaluation.metrics()[name] == pytest.approx(metric(said, true).item(), abs=1e-6), name
    iou = MulticlassJaccardIndex(3, average="none", ignore_index=255)(said, true)
    np.testing.assert_allclose(evaluation.per_class()["iou"], iou, atol=1e-6, rtol=0)


def test_photographs_add_up_by_their_pixels_and_each_has_its_own_quality():
    large, small = (np.zeros((20, 20)), np.zeros((20, 20))), ([[1, 0]], [[1, 1]])
    evaluation = score(large, small)
    assert evaluation.metrics()["pixel_accuracy"] == pytest.approx(401 / 402, abs=1e-12)
    np.testing.assert_allclose(evaluation.quality, [1, (0 + 1 / 2) / 2], atol=1e-12, rtol=0)
    assert evaluation.predicted(1).tolist() == [[1, 0]]
    assert evaluation.predicted(0).shape == (20, 20)


def test_where_every_pixel_is_ignored_there_is_no_figure():
    evaluation = score(([[0, 1]], [[255, 255]]))
    assert evaluation.metrics() == {}
    assert np.isnan(evaluation.quality).all()
    assert all(np.isnan(value) for value in segmentation_figures(evaluation.confusion).values())
    both = score(([[0, 1]], [[255, 255]]), ([[0, 1]], [[0, 0]]))
    assert both.metrics()["pixel_accuracy"] == pytest.approx(0.5, abs=1e-12)


def test_one_class_is_always_right():
    evaluation = score((np.zeros((3, 4)), np.zeros((3, 4))), names=["all"])
    assert evaluation.metrics() == {"miou": 1, "mean_accuracy": 1, "pixel_accuracy": 1}
    assert class_figures(confusion(np.zeros(4, np.uint8), np.zeros(4, np.uint8), 1))["iou"].tolist() == [1]
