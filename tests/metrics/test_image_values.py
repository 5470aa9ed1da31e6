"""The values of images; test_publication_metrics.py compares their metrics with scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest

from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.fitted_choices import FittedChoices


def draw(classes: int, images: int = 60) -> ClassificationEvaluation:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(classes), images).astype(np.float32)
    labels, weights = random.integers(0, classes, images), random.random(images)
    names = [f"class {i}" for i in range(classes)]
    choices = FittedChoices.fit(labels, probabilities, 1 if classes == 2 else None)
    return ClassificationEvaluation(names, [""] * images, labels, probabilities, weights, choices=choices)


@pytest.mark.parametrize("classes", [2, 7])
def test_drawn_values_have_the_metrics_of_drawn_images(classes):
    whole, indices = draw(classes), np.array([5, 5, 9, 0, 17, 31, 31, 2])
    drawn = replace(
        whole,
        labels=whole.labels[indices],
        probabilities=whole.probabilities[indices],
        weights=whole.weights[indices],
    )
    assert whole.values.take(indices).metrics() == pytest.approx(drawn.values.metrics(), nan_ok=True)


def test_ranking_metrics_can_be_left_out():
    values = draw(7).values
    rest = values.without_ranking().metrics()
    assert set(values.metrics()) - set(rest) == {"auroc", "auprc"}
    assert rest["accuracy"] == values.metrics()["accuracy"]
