"""Regression metrics, against scikit-learn and scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from transxnet.metrics.regression import RegressionEvaluation


def evaluation(labels, predictions) -> RegressionEvaluation:
    return RegressionEvaluation(["mass"], [], np.array(labels, np.float32), np.array(predictions, np.float32))


def test_metrics_equal_those_of_scikit_learn():
    dice = np.random.default_rng(0)
    labels = dice.normal(50, 10, 40).astype(np.float32)
    predictions = labels + dice.normal(0, 5, 40).astype(np.float32)
    expected = {
        "mae": mean_absolute_error(labels, predictions),
        "rmse": root_mean_squared_error(labels, predictions),
        "baseline_rmse": labels.std(),
        "r2": r2_score(labels, predictions),
        "spearman": spearmanr(labels, predictions).statistic,
    }
    assert evaluation(labels, predictions).metrics() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("labels", "predictions", "undefined"),
    [([1, 1], [1, 2], {"r2", "spearman"}), ([1], [2], {"r2", "spearman"}), ([1, 2], [3, 3], {"spearman"})],
)
def test_undefined_metrics_are_omitted(labels, predictions, undefined):
    result = evaluation(labels, predictions)
    assert set(result.all_metrics()) - set(result.metrics()) == undefined


def test_weighted_error_equals_that_of_scikit_learn():
    weights = np.array([1.0, 0.5, 0.0])
    result = RegressionEvaluation(["mass"], [], np.array([1.0, 2.0, 3.0]), np.array([2.0, 5.0, 9.0]), weights)
    expected = mean_absolute_error(result.labels, result.predictions, sample_weight=weights)
    assert result.metrics()["weighted_mae"] == pytest.approx(expected)
    assert "weighted_mae" not in evaluation([1, 2], [2, 2]).metrics()


def test_largest_errors_come_first():
    assert evaluation([0, 0, 0, 0], [1, -3, 2, 0]).largest_errors(2).tolist() == [1, 2]
