import numpy as np
import pytest
from scipy.special import expit, softmax

from transxnet.metrics.temperature import (
    LIMITS,
    fit_label_temperature,
    fit_temperature,
    scale_label_temperature,
    scale_temperature,
)


def draw(temperature, classes=3, count=20_000):
    """Probabilities that are right once their logits are divided by the temperature."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (count, classes))
    cumulative = softmax(logits, axis=1).cumsum(1)
    labels = (random.random((count, 1)) > cumulative).sum(1).clip(max=classes - 1)
    return softmax(logits * temperature, axis=1).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_of_miscalibrated_probabilities_is_found(temperature):
    assert fit_temperature(*draw(temperature)) == pytest.approx(temperature, rel=0.05)


def test_fitted_temperature_has_the_lowest_loss_of_sklearn():
    log_loss = pytest.importorskip("sklearn.metrics").log_loss
    probabilities, labels = draw(2.0, count=500)
    fitted = fit_temperature(probabilities, labels)
    losses = [log_loss(labels, scale_temperature(probabilities, fitted * factor)) for factor in (0.98, 1, 1.02)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_scaled_probabilities_are_those_of_divided_logits():
    logits = np.random.default_rng(0).normal(0, 3, (10, 4))
    scaled = scale_temperature(softmax(logits, axis=1), 2.5)
    np.testing.assert_allclose(scaled, softmax(logits / 2.5, axis=1), rtol=1e-12)


def test_probabilities_of_zero_and_one_are_accepted():
    sure = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    assert LIMITS[0] <= fit_temperature(sure, np.array([0, 1, 0])) <= 1  # all of these have the same loss
    assert np.isfinite(scale_temperature(sure, 2.0)).all()


def test_labels_are_scaled_as_two_classes():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 20_000)
    labels, probabilities = random.random(20_000) < expit(logits), expit(logits * 2).astype(np.float32)
    fitted = fit_label_temperature(probabilities, labels)
    assert fitted == pytest.approx(2, rel=0.05)
    both = np.stack([1 - probabilities.astype(np.float64), probabilities], axis=1)
    assert fitted == pytest.approx(fit_temperature(both, labels.astype(int)), rel=1e-3)
    scaled = scale_label_temperature(probabilities.reshape(2, -1), 2.5)
    np.testing.assert_allclose(scaled.ravel(), scale_temperature(both, 2.5)[:, 1], rtol=1e-5)


def test_certain_labels_are_accepted():
    sure = np.array([0, 1, 1], np.float32)
    assert LIMITS[0] <= fit_label_temperature(sure, np.array([0, 1, 1])) <= 1
    assert fit_label_temperature(sure, np.array([1, 0, 0])) == pytest.approx(LIMITS[1], rel=0.01)
    assert np.isfinite(scale_label_temperature(sure, 2.0)).all()
