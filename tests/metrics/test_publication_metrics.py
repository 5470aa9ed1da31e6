import numpy as np
import pytest
from scipy.special import softmax

from transxnet.metrics.publication_metrics import (
    BINARY_ONLY,
    LOWER_IS_BETTER,
    PUBLICATION_METRICS,
    ScoredImages,
)
from transxnet.metrics.temperature import scale_temperature


def draw(classes, count=300, seed=0):
    random = np.random.default_rng(seed)
    labels = random.choice(classes, count, p=np.arange(1, classes + 1) / sum(range(1, classes + 1)))
    logits = random.normal(0, 1, (count, classes)) + 1.2 * np.eye(classes)[labels]
    probabilities = softmax(logits, axis=1).astype(np.float32)
    positive, detected = (0, probabilities[:, 0] >= 0.4) if classes == 2 else (None, None)
    return ScoredImages(labels, probabilities, scale_temperature(probabilities, 1.5), positive, detected)


@pytest.mark.parametrize("classes", [2, 4])
def test_metrics_are_those_of_sklearn(classes):
    sk = pytest.importorskip("sklearn.metrics")
    images = draw(classes)
    labels, probabilities = images.labels, images.probabilities.astype(np.float64)
    predicted = probabilities.argmax(1)
    found = images.metrics()
    expected = {
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
        "f1": sk.f1_score(labels, predicted, average="macro"),
        "mcc": sk.matthews_corrcoef(labels, predicted),
    }
    if classes == 2:
        positive = labels == 0
        expected |= {
            "auroc": sk.roc_auc_score(positive, probabilities[:, 0]),
            "auprc": sk.average_precision_score(positive, probabilities[:, 0]),
            "sensitivity": sk.recall_score(positive, images.detected),
            "specificity": sk.recall_score(~positive, ~images.detected),
            "brier": sk.brier_score_loss(positive, probabilities[:, 0]),
            "brier_scaled": sk.brier_score_loss(positive, images.scaled[:, 0]),
        }
    else:
        one_hot = np.eye(classes)[labels]
        expected |= {
            "auroc": np.mean([sk.roc_auc_score(one_hot[:, k], probabilities[:, k]) for k in range(classes)]),
            "auprc": np.mean([sk.average_precision_score(one_hot[:, k], probabilities[:, k]) for k in range(classes)]),
        }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=2e-6), name
    assert set(found) == set(PUBLICATION_METRICS) - (set() if classes == 2 else set(BINARY_ONLY))


def test_calibration_error_is_its_definition():
    images = draw(3)
    confidence, correct = images.probabilities.max(1), images.correct
    bins = np.minimum((confidence * 10).astype(int), 9)
    expected = sum(
        abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    )
    assert images.metrics()["ece"] == pytest.approx(expected, abs=1e-6)
    assert images.metrics()["ece_scaled"] == pytest.approx(images.calibration(True).error)


def test_absent_classes_are_undefined_or_left_out():
    images = draw(2)
    only = images.take(np.flatnonzero(images.labels == 1)).metrics()
    assert np.isnan([only["auroc"], only["auprc"], only["sensitivity"]]).all()
    assert 0 <= only["specificity"] <= 1
    some = draw(4)
    known = some.take(np.flatnonzero(some.labels != 3)).metrics()
    assert all(np.isfinite(value) for value in known.values())


def test_taken_images_may_repeat():
    images = draw(2)
    twice = images.take(np.repeat(np.arange(300), 2)).metrics()
    assert twice == pytest.approx(images.metrics(), abs=1e-6)
    assert set(LOWER_IS_BETTER) < set(twice)
