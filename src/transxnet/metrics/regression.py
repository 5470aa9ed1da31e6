"""Regression metrics, from a model's predictions in the unit of the targets."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import spearmanr
from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error, r2_score

from transxnet.metrics.count_metrics import weighted_mean
from transxnet.metrics.intervals import Resampled


@dataclass(frozen=True)
class RegressionEvaluation(Resampled):
    """A regression model's results on N images.

    Attributes:
        class_names: the name of the target, as a list of one.
        names: N image names.
        labels: (N,) true values.
        predictions: (N,) predicted values.
        weights: (N,) confidence in each label, 0 to 1, if the data has it; else None.
        groups: (N,) group of each image, such as its patient, if the data has it; else None.
    """

    class_names: list[str]
    names: list[str]
    labels: np.ndarray
    predictions: np.ndarray
    weights: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def residuals(self) -> np.ndarray:
        """(N,) predicted minus true values."""
        return self.predictions.astype(np.float64) - self.labels.astype(np.float64)

    def metrics(self) -> dict[str, float]:
        """Compute ``mae`` and ``rmse`` in the unit of the targets, and ``r2`` and ``spearman``, at most 1.

        ``baseline_rmse`` is the RMSE of always predicting the mean of these targets, where R2 is 0. With weights also
        ``weighted_mae``. Metrics that are not defined, as R2 of equal targets, are omitted.
        """
        return {name: value for name, value in self.all_metrics().items() if not math.isnan(value)}

    def all_metrics(self) -> dict[str, float]:
        """Compute the same, with NaN for those that are not defined."""
        predicted, true = (torch.from_numpy(x.astype(np.float64)) for x in (self.predictions, self.labels))
        varied = len(np.unique(self.labels)) > 1
        ranked = varied and len(np.unique(self.predictions)) > 1
        weights = self.weights
        weighted = {} if weights is None else {"weighted_mae": weighted_mean(np.abs(self.residuals), weights)}
        return {
            "mae": float(mean_absolute_error(predicted, true)),
            **weighted,
            "rmse": float(mean_squared_error(predicted, true, squared=False)),
            "baseline_rmse": float(true.std(correction=0)),
            "r2": float(r2_score(predicted, true)) if varied else math.nan,
            "spearman": float(spearmanr(self.predictions, self.labels).statistic) if ranked else math.nan,
        }

    def resampler(self) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return the metrics as a function of the indices of drawn images."""

        def drawn_metrics(indices: np.ndarray) -> Mapping[str, float]:
            weights = None if self.weights is None else self.weights[indices]
            drawn = RegressionEvaluation([], [], self.labels[indices], self.predictions[indices], weights)
            return drawn.all_metrics()

        return drawn_metrics

    def largest_errors(self, count: int) -> np.ndarray:
        """Return the indices of the images with the largest absolute errors, largest first."""
        return np.argsort(-np.abs(self.residuals), kind="stable")[:count]
