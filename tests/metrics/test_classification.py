import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from transxnet.metrics.classification import ClassificationEvaluation


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


def test_most_confident_predictions_of_one_class():
    e = binary([0.9, 0.8, 0.3, 0.4, 0.95], [1, 1, 1, 1, 0])
    assert e.most_confident(5, correct=True, label=1).tolist() == [0, 1]
    assert e.most_confident(1, correct=False, label=1).tolist() == [2]
    assert e.most_confident(5, correct=False, label=0).tolist() == [4]
