"""Calibration: squared errors; bins and ECE are tested with the evaluation that has them."""

import numpy as np
import pytest

from transxnet.metrics.calibration import bin_numbers, squared_errors


def test_brier_score_of_several_classes_is_the_sum():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    expected = (0.09 + 0.04 + 0.01 + 0.01 + 0.81 + 0.64) / 2
    assert squared_errors(probabilities, np.array([0, 1])).mean() == pytest.approx(expected)


def test_confidence_of_one_is_in_the_last_bin():
    assert bin_numbers(np.array([0.0, 0.05, 0.55, 1.0, 1.0000001])).tolist() == [0, 0, 5, 9, 9]
