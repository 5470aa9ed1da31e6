import numpy as np
import pytest

from transxnet.metrics.fitted_choices import FittedChoices


def test_choices_are_those_of_the_validation_images():
    labels = np.array([0, 0, 0, 1, 1, 1])
    positive = np.array([0.1, 0.2, 0.55, 0.6, 0.7, 0.9], np.float32)
    probabilities = np.stack([1 - positive, positive], 1)
    choices = FittedChoices.fit(labels, probabilities, 1)
    assert choices.threshold == pytest.approx(0.575)  # halfway to the next probability
    assert FittedChoices.fit(labels, probabilities, None).threshold is None
    images = choices.apply(labels, probabilities)
    assert images.detected.tolist() == [False] * 3 + [True] * 3
    np.testing.assert_allclose(images.scaled.sum(1), 1)
