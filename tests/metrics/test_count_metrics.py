"""Metrics from counts; test_classification.py compares them with scikit-learn."""

import numpy as np
import pytest

from transxnet.metrics.count_metrics import classification_metrics, weighted_mean


def test_metrics_of_counts_computed_by_hand():
    counts = np.array([[3, 1, 4, 1, 4], [2, 1, 5, 1, 3], [0, 1, 7, 1, 1], [0, 0, 8, 0, 0]])
    top = np.array([7, 1, 0, 1, 8])
    metrics = classification_metrics(counts, top)
    assert metrics["accuracy"] == 5 / 8
    assert metrics["balanced_accuracy"] == pytest.approx((3 / 4 + 2 / 3 + 0) / 3)
    assert metrics["f1"] == pytest.approx((6 / 8 + 4 / 6 + 0) / 3)
    assert metrics["majority"] == 4 / 8
    assert metrics["top5_accuracy"] == 7 / 8


def test_weighted_mean_without_weights_is_undefined():
    assert weighted_mean(np.array([1.0, 3.0]), np.array([1.0, 3.0])) == 2.5
    assert np.isnan(weighted_mean(np.ones(2), np.zeros(2)))
