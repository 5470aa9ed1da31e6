"""Estimates of several models on the same images, and their paired comparisons with the best one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from transxnet.metrics.publication_metrics import LOWER_IS_BETTER, ScoredImages
from transxnet.metrics.scored_detections import ScoredDetections
from transxnet.metrics.scored_maps import ScoredMaps
from transxnet.metrics.significance import (
    Difference,
    bootstrap_difference,
    bootstrap_groups,
    delong,
    holm,
    mcnemar,
    percentile_interval,
)

Scores = ScoredImages | ScoredMaps | ScoredDetections
"""The predictions of a model for N images."""

Arms = Mapping[str, Sequence[Any]]
"""Of each arm, by its name, the predictions of its models for the same N images: ``Scores`` of one type."""

RESAMPLES = 1000
"""Default number of bootstrap resamples."""

MIN_RESAMPLES = 100
"""Fewer resamples have no 95% interval: 2.5% of them must be several."""


@dataclass(frozen=True)
class Estimate:
    """A metric of predictions, mean over the models, with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ArmComparison:
    """The paired comparison of an arm with the best arm.

    Attributes:
        metric: what is compared.
        arm: name of the arm.
        difference: arm minus best arm.
        test: name of the test of the p-value.
        adjusted: p-value after Holm's correction over the arms.
    """

    metric: str
    arm: str
    difference: Difference
    test: str
    adjusted: float


@dataclass(frozen=True)
class Estimates:
    """The metrics of arms with intervals.

    Attributes:
        rows: of each arm, by its name, the estimate of each metric.
        metrics: names of the metrics.
        drawn: (resamples, arms, metrics) values of the resamples, which are the same for all arms.
    """

    rows: dict[str, dict[str, Estimate]]
    metrics: list[str]
    drawn: np.ndarray

    def best(self, metric: str) -> str | None:
        """Return the name of the arm with the best value of a metric, the first of equal ones; None if none has it."""
        sign = -1 if metric in LOWER_IS_BETTER else 1
        known = {name: sign * row[metric].value for name, row in self.rows.items() if not np.isnan(row[metric].value)}
        return max(known, key=known.__getitem__, default=None)

    def difference(self, arm: str, other: str, metric: str) -> Difference:
        """Return the paired bootstrap difference of two arms, the first minus the other."""
        order, m = list(self.rows), self.metrics.index(metric)
        value = self.rows[arm][metric].value - self.rows[other][metric].value
        return bootstrap_difference(value, self.drawn[:, order.index(arm), m] - self.drawn[:, order.index(other), m])


def estimate(arms: Arms, units: np.ndarray, resamples: int, seed: int) -> Estimates:
    """Compute the metrics of arms, mean over the models of each arm, with bootstrap intervals.

    Args:
        arms: predictions of each arm.
        units: (N,) what is drawn: groups, or single images.
        resamples: number of resamples.
        seed: seed of the resamples.
    """
    metrics = list(next(iter(arms.values()))[0].metrics())

    def values(indices: np.ndarray) -> list[float]:
        computed = [[list(model.take(indices).metrics().values()) for model in models] for models in arms.values()]
        return [float(value) for models in computed for value in np.mean(models, axis=0)]

    point = np.array(values(np.arange(len(units)))).reshape(len(arms), len(metrics))
    drawn = bootstrap_groups(units, values, resamples, seed).reshape(-1, *point.shape)
    rows = {
        name: {
            metric: Estimate(float(point[a, m]), *percentile_interval(drawn[:, a, m]))
            for m, metric in enumerate(metrics)
        }
        for a, name in enumerate(arms)
    }
    return Estimates(rows, metrics, drawn)


def compare_with_best(estimates: Estimates, arms: Arms, metric: str, *, grouped: bool) -> list[ArmComparison]:
    """Compare each other arm with the best one, by a metric and those that its task always compares.

    The p-value is DeLong's for the AUROC of two classes, and McNemar's for the accuracy of one model per arm; both
    assume independent images. Otherwise, and with groups, it is that of the paired bootstrap.

    Args:
        estimates: metrics of the arms.
        arms: predictions of each arm.
        metric: the metric that ranks the arms.
        grouped: whether the images are in groups.
    """
    best = estimates.best(metric)
    compared: list[ArmComparison] = []
    if best is None:
        return compared
    for each in dict.fromkeys([metric, *arms[best][0].compared]):
        others = [name for name in arms if name != best]
        found = [
            _test(each, arms[name], arms[best], estimates.difference(name, best, each), grouped) for name in others
        ]
        adjusted = holm([difference.p for difference, _ in found])
        compared += [
            ArmComparison(each, name, difference, test, p)
            for name, (difference, test), p in zip(others, found, adjusted, strict=True)
        ]
    return compared


def _test(
    metric: str, arm: Sequence[Any], best: Sequence[Any], bootstrapped: Difference, grouped: bool
) -> tuple[Difference, str]:
    """Return the difference of an arm to the best, and the name of its test."""
    if not grouped and metric == "auroc" and arm[0].positive is not None:
        scores = [np.stack([images.scores for images in models]) for models in (arm, best)]
        return delong(scores[0], scores[1], arm[0].is_positive), "DeLong"
    if not grouped and metric == "accuracy" and len(arm) == len(best) == 1:
        return replace(bootstrapped, p=mcnemar(arm[0].correct, best[0].correct)), "McNemar"
    return bootstrapped, "paired bootstrap"
