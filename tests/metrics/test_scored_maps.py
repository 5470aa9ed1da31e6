import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from transxnet.metrics.scored_maps import ScoredMaps
from transxnet.metrics.segmentation import class_pixels, confusion_matrix

NAMES = ("a", "b", "c")


def make_maps(count=6, classes=3):
    """Label maps, noisy predictions of them, and the pixels of each image."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, (count, 8, 8)).astype(np.uint8)
    predicted = np.where(random.random(labels.shape) < 0.4, random.integers(0, 3, labels.shape), labels)
    predicted = predicted.astype(np.uint8)
    counts = [class_pixels(confusion_matrix(p, y, 3)) for p, y in zip(predicted, labels, strict=True)]
    return labels, predicted, ScoredMaps(NAMES, np.array(counts))


def test_metrics_are_those_of_scikit_learn():
    labels, predicted, maps = make_maps()
    found = maps.metrics()
    iou = jaccard_score(labels.ravel(), predicted.ravel(), average=None)
    dice = f1_score(labels.ravel(), predicted.ravel(), average=None)
    assert list(found)[3:] == [f"{kind}_{name}" for kind in ("iou", "dice") for name in NAMES]
    np.testing.assert_allclose(list(found.values())[3:], [*iou, *dice])
    np.testing.assert_allclose([found["miou"], found["mean_dice"]], [iou.mean(), dice.mean()])
    assert found["pixel_accuracy"] == pytest.approx((labels == predicted).mean())


def test_drawn_images_count_as_often_as_they_are_drawn():
    labels, predicted, maps = make_maps()
    drawn = np.array([4, 0, 4])
    iou = jaccard_score(labels[drawn].ravel(), predicted[drawn].ravel(), average=None)
    assert maps.take(drawn).metrics()["miou"] == pytest.approx(iou.mean())
    parts = [maps.take(np.array([4])), maps.take(np.array([0, 4]))]
    assert (ScoredMaps.concatenate(parts).counts == maps.take(drawn).counts).all()
    own = jaccard_score(labels[4].ravel(), predicted[4].ravel(), average="macro")
    assert maps.image_scores[4] == pytest.approx(own) and len(maps) == 6


def test_classes_that_do_not_occur_are_undefined():
    counts = np.array([[[3, 0, 0], [4, 0, 1], [4, 0, 1]]])
    found = ScoredMaps(NAMES, counts).metrics()
    assert np.isnan(found["iou_b"]) and np.isnan(found["dice_b"]) and found["iou_c"] == 0
    assert found["miou"] == pytest.approx((3 / 5 + 0) / 2)
    assert found["mean_dice"] == pytest.approx((6 / 8 + 0) / 2)
    assert np.isnan(list(ScoredMaps(NAMES, 0 * counts).metrics().values())).all()
