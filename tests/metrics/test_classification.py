import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from transxnet.metrics.classification import BinaryCurves, ClassificationEvaluation


def evaluation(images: int, classes: int, seed: int = 0, labels=None, weights=None) -> ClassificationEvaluation:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), images).astype(np.float32)
    labels = generator.integers(0, classes, images) if labels is None else np.array(labels)
    names = [f"class {i}" for i in range(classes)]
    return ClassificationEvaluation(names, [f"{i}.png" for i in range(images)], labels, probabilities, weights)


@pytest.mark.parametrize(("images", "classes"), [(200, 4), (500, 12), (7, 2), (1, 3)])
def test_metrics_match_scikit_learn(images, classes):
    e = evaluation(images, classes)
    metrics, present = e.metrics(), np.unique(e.labels)
    assert metrics["accuracy"] == pytest.approx(sk.accuracy_score(e.labels, e.predictions), abs=1e-6)
    recall = sk.recall_score(e.labels, e.predictions, labels=present, average="macro", zero_division=0)
    assert metrics["balanced_accuracy"] == pytest.approx(recall, abs=1e-6)
    f1 = sk.f1_score(e.labels, e.predictions, labels=present, average="macro", zero_division=0)
    assert metrics["f1"] == pytest.approx(f1, abs=1e-6)
    assert np.array_equal(e.confusion, sk.confusion_matrix(e.labels, e.predictions, labels=range(classes)))
    assert metrics["majority"] == pytest.approx(np.bincount(e.labels).max() / images, abs=1e-12)


def test_per_class_metrics_match_scikit_learn():
    e = evaluation(300, 6)
    expected = sk.precision_recall_fscore_support(e.labels, e.predictions, labels=range(6), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(e.per_class()[name], values, atol=1e-6)


def test_classes_without_images_do_not_count():
    e = evaluation(100, 5, labels=np.arange(100) % 3)
    expected = sk.recall_score(e.labels, e.predictions, labels=[0, 1, 2], average="macro")
    assert e.metrics()["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert e.per_class()["support"].tolist() == [34, 33, 33, 0, 0]


def test_top5_accuracy_only_with_more_than_five_classes():
    assert "top5_accuracy" not in evaluation(50, 5).metrics()
    e = evaluation(200, 12)
    expected = sk.top_k_accuracy_score(e.labels, e.probabilities, k=5, labels=range(12))
    assert e.metrics()["top5_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_weighted_accuracy_matches_scikit_learn():
    weights = np.random.default_rng(1).random(80)
    e = evaluation(80, 3, weights=weights)
    expected = sk.accuracy_score(e.labels, e.predictions, sample_weight=weights)
    assert e.metrics()["weighted_accuracy"] == pytest.approx(expected, abs=1e-9)
    assert "weighted_accuracy" not in evaluation(80, 3).metrics()


def test_most_confident_mistakes_are_wrong_and_sorted():
    e = evaluation(100, 4)
    worst = e.most_confident(10, correct=False)
    confidence = e.probabilities.max(axis=1)
    wrong = e.predictions != e.labels
    assert wrong[worst].all()
    assert (np.diff(confidence[worst]) <= 0).all()
    assert confidence[worst[-1]] >= np.sort(confidence[wrong])[-10]


def test_most_confident_correct_are_correct_and_sorted():
    e = evaluation(60, 3)
    first = e.most_confident(5, correct=True)
    assert len(first) == 5
    assert (e.predictions[first] == e.labels[first]).all()
    confidence = e.probabilities.max(axis=1)
    assert confidence[first].tolist() == sorted(confidence[e.predictions == e.labels], reverse=True)[:5]


@pytest.mark.parametrize("correct", [0, 7, 50])
def test_accuracy_interval_solves_the_score_equation(correct):
    """Wilson 1927: each end is 1.96 of its own standard deviations from the measured accuracy."""
    probabilities = np.zeros((50, 2), np.float32)
    probabilities[:correct, 0] = probabilities[correct:, 1] = 1
    e = ClassificationEvaluation(["a", "b"], [""] * 50, np.zeros(50, int), probabilities)
    low, high = e.accuracy_interval()
    assert (low == 0) == (correct == 0) and (high == 1) == (correct == 50)
    for end in (low, high):
        if 0 < end < 1:
            assert abs(correct / 50 - end) / math.sqrt(end * (1 - end) / 50) == pytest.approx(1.959964, abs=1e-5)


def test_calibration_bins_match_scikit_learn():
    e = evaluation(300, 5)
    calibration = e.calibration()
    correct, confidence = e.predictions == e.labels, e.probabilities.max(axis=1)
    accuracy, mean_confidence = calibration_curve(correct, confidence, n_bins=10)
    np.testing.assert_allclose(calibration.accuracy, accuracy, rtol=0, atol=1e-6)
    np.testing.assert_allclose(calibration.confidence, mean_confidence, rtol=0, atol=1e-6)
    assert calibration.share.sum() == pytest.approx(1, abs=1e-12)


def test_calibration_error_matches_torchmetrics():
    e = evaluation(300, 5)
    tensors = torch.from_numpy(e.probabilities), torch.from_numpy(e.labels)
    expected = multiclass_calibration_error(*tensors, num_classes=5, n_bins=10, norm="l1")
    assert e.calibration().error == pytest.approx(float(expected), abs=1e-6)


def test_calibration_counts_confidence_one_in_the_last_bin():
    probabilities = np.array([[1, 0], [0.95, 0.05], [0.92, 0.08], [np.nextafter(np.float32(1), 2), 0]], np.float32)
    calibration = ClassificationEvaluation(
        ["a", "b"], list("wxyz"), np.array([1, 0, 0, 0]), probabilities
    ).calibration()
    assert calibration.share.tolist() == [1]
    assert calibration.error == pytest.approx((1 + 0.95 + 0.92 + 1) / 4 - 3 / 4, abs=1e-6)


def binary(scores: list[float], labels: list[int]) -> ClassificationEvaluation:
    second = np.array(scores, np.float32)
    return ClassificationEvaluation(
        ["good", "defective"], [f"{i}.png" for i in range(len(labels))], np.array(labels), np.c_[1 - second, second]
    )


def test_thresholds_of_six_scores_computed_by_hand():
    curves = binary([0.1, 0.2, 0.355, 0.6, 0.705, 0.9], [0, 0, 1, 0, 1, 1]).binary_curves()
    assert curves.positive == 1
    for wanted, threshold, precision, recall in [(0.3, 0.7, 1, 2 / 3), (0.6, 0.7, 1, 2 / 3), (0.7, 0.35, 3 / 4, 1)]:
        point = curves.at_recall(wanted)
        assert (point.threshold, point.precision, point.recall) == pytest.approx((threshold, precision, recall))
    for wanted, threshold, precision, recall in [(0.5, 0.35, 3 / 4, 1), (0.8, 0.7, 1, 2 / 3), (1.0, 0.7, 1, 2 / 3)]:
        point = curves.at_precision(wanted)
        assert (point.threshold, point.precision, point.recall) == pytest.approx((threshold, precision, recall))
    # Of the 9 pairs of a positive and a negative, only (0.355, 0.6) is in the wrong order.
    assert curves.auroc == pytest.approx(8 / 9)
    assert curves.average_precision == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_precision_that_no_threshold_reaches():
    curves = binary([0.9, 0.8, 0.1, 0.2], [0, 1, 0, 0]).binary_curves()
    assert curves.at_precision(0.8) is None
    assert curves.at_precision(0.5).recall == 1


def test_thresholds_are_shortened_without_changing_the_predictions():
    curves = binary([0.123456, 0.7777, 0.81234, 0.3], [0, 1, 1, 0]).binary_curves()
    assert curves.at_recall(1).threshold == 0.77
    close = binary([0.1, 0.77771, 0.77774, 0.3], [0, 0, 1, 0]).binary_curves()
    assert close.at_recall(1).threshold == 0.77774
    assert (close.scores >= close.at_recall(1).threshold).tolist() == [False, False, True, False]


def test_curves_match_scikit_learn():
    e = evaluation(300, 2)
    curves = e.binary_curves()
    positive, scores = e.labels == curves.positive, e.probabilities[:, curves.positive]
    assert curves.auroc == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-6)
    assert curves.average_precision == pytest.approx(sk.average_precision_score(positive, scores), abs=1e-6)
    precision, recall, thresholds = sk.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(curves.precision_recall(), (precision[:-1], recall[:-1], thresholds), atol=1e-6)


def test_positive_class_is_the_less_frequent_one():
    assert binary([0.5] * 3, [0, 1, 1]).binary_curves().positive == 0
    assert binary([0.5] * 4, [0, 0, 1, 1]).binary_curves().positive == 1
    assert binary([0.5] * 2, [1, 1]).binary_curves() is None
    assert evaluation(20, 3).binary_curves() is None


def test_most_confident_predictions_of_one_class():
    e = binary([0.9, 0.8, 0.3, 0.4, 0.95], [1, 1, 1, 1, 0])
    assert e.most_confident(5, correct=True, label=1).tolist() == [0, 1]
    assert e.most_confident(1, correct=False, label=1).tolist() == [2]
    assert e.most_confident(5, correct=False, label=0).tolist() == [4]


def test_youden_threshold_has_the_highest_sum_of_both_rates():
    random = np.random.default_rng(0)
    labels = random.random(200) < 0.3
    scores = (random.random(200) * 0.6 + 0.4 * labels * random.random(200)).astype(np.float32)
    curves = BinaryCurves(1, scores, labels)
    sums = {t: (scores[labels] >= t).mean() + (scores[~labels] < t).mean() for t in scores}
    assert sums[np.float32(curves.youden_threshold())] == pytest.approx(max(sums.values()))
