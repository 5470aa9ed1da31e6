"""The results of a study: a row for each arm with intervals, and paired comparisons with the best arm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from transxnet.metrics.publication_metrics import LOWER_IS_BETTER, PUBLICATION_METRICS, ScoredImages
from transxnet.metrics.significance import (
    Difference,
    bootstrap_difference,
    bootstrap_groups,
    delong,
    holm,
    mcnemar,
    percentile_interval,
)
from transxnet.studies.fold_results import ArmResult
from transxnet.studies.folds import Folds
from transxnet.studies.study_folder import StudyFolder


@dataclass(frozen=True)
class Estimate:
    """A metric of predictions, mean over the models, with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
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
class ExternalResult:
    """The results on further test data.

    Attributes:
        data: the data.
        images: number of images.
        groups: number of groups, or None without groups.
        rows: of each arm, by its name, the estimate of each metric, and the standard deviation over the models.
    """

    data: str
    images: int
    groups: int | None
    rows: dict[str, dict[str, tuple[Estimate, float | None]]]


@dataclass(frozen=True)
class StudyResult:
    """The results of a study.

    Attributes:
        folder: folder of the study.
        folds: its images and outer folds.
        arms: results of the finished arms.
        estimates: of each arm, the metrics of its pooled out-of-fold predictions.
        best: name of the best arm; None before an arm is finished.
        comparisons: the other arms compared with it.
        environment: versions and hardware of the first run.
        config: options with the same value in all arms.
        failures: error messages of failed runs, by name of the run.
        external: results on further test data, or None.
    """

    folder: StudyFolder
    folds: Folds
    arms: list[ArmResult]
    estimates: dict[str, dict[str, Estimate]]
    best: str | None
    comparisons: list[Comparison]
    environment: dict[str, str]
    config: dict[str, Any]
    failures: dict[str, str]
    external: ExternalResult | None = None

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics, in the order of the tables."""
        return [name for name in PUBLICATION_METRICS if all(name in row for row in self.estimates.values())]

    def of(self, name: str) -> ArmResult:
        """Return the results of an arm."""
        return next(result for result in self.arms if result.arm.name == name)


def estimate(
    models: Sequence[Sequence[ScoredImages]], units: np.ndarray, resamples: int, seed: int
) -> tuple[list[dict[str, Estimate]], np.ndarray, list[str]]:
    """Compute the metrics of arms on the same images, mean over the models of each arm, with bootstrap intervals.

    Args:
        models: of each arm, the predictions of its models for the same N images.
        units: (N,) what is drawn: groups, or single images.
        resamples: number of resamples, the same for all arms.
        seed: seed of the resamples.

    Returns:
        The estimates of each arm by metric, the resampled values (resamples, arms, metrics), and the metrics' names.
    """
    names = list(models[0][0].metrics())

    def values(indices: np.ndarray) -> list[float]:
        computed = [[list(model.take(indices).metrics().values()) for model in arm] for arm in models]
        return [float(value) for arm in computed for value in np.mean(arm, axis=0)]

    shape = len(models), len(names)
    point = np.array(values(np.arange(len(units)))).reshape(shape)
    drawn = bootstrap_groups(units, values, resamples, seed).reshape(-1, *shape)
    rows = [
        {name: Estimate(float(point[a, m]), *percentile_interval(drawn[:, a, m])) for m, name in enumerate(names)}
        for a in range(len(models))
    ]
    return rows, drawn, names


def find_best(estimates: dict[str, dict[str, Estimate]], metric: str) -> str | None:
    """Return the name of the arm with the best value of a metric, the first of equal ones."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    known = {name: sign * row[metric].value for name, row in estimates.items() if not np.isnan(row[metric].value)}
    return max(known, key=known.__getitem__, default=None)


def compare_with_best(
    arms: Sequence[ArmResult],
    folds: Folds,
    best: str,
    metrics: Sequence[str],
    estimates: dict[str, dict[str, Estimate]],
    drawn: np.ndarray,
    names: Sequence[str],
) -> list[Comparison]:
    """Compare each other arm with the best one.

    The p-value is DeLong's for the AUROC of two classes, and McNemar's for the accuracy of one seed; both assume
    independent images. Otherwise, and with groups, it is that of the paired bootstrap.
    """
    order = [result.arm.name for result in arms]
    others = [result for result in arms if result.arm.name != best]
    reference = next(result for result in arms if result.arm.name == best)
    compared = []
    for metric in metrics:
        found = []
        for result in others:
            m, name = names.index(metric), result.arm.name
            value = estimates[name][metric].value - estimates[best][metric].value
            resampled = drawn[:, order.index(name), m] - drawn[:, order.index(best), m]
            found.append((name, *_test(metric, result, reference, folds, bootstrap_difference(value, resampled))))
        adjusted = holm([difference.p for _, difference, _ in found])
        compared += [
            Comparison(metric, name, difference, test, p)
            for (name, difference, test), p in zip(found, adjusted, strict=True)
        ]
    return compared


def _test(
    metric: str, arm: ArmResult, best: ArmResult, folds: Folds, bootstrapped: Difference
) -> tuple[Difference, str]:
    """Return the difference of an arm to the best, and the name of its test."""
    first, second = arm.pooled, best.pooled
    if folds.groups is None and metric == "auroc" and first[0].positive is not None:
        scores = [np.stack([images.scores for images in pooled]) for pooled in (first, second)]
        return delong(scores[0], scores[1], first[0].is_positive), "DeLong"
    if folds.groups is None and metric == "accuracy" and len(first) == 1:
        p = mcnemar(first[0].correct, second[0].correct)
        return Difference(bootstrapped.value, bootstrapped.low, bootstrapped.high, p), "McNemar"
    return bootstrapped, "paired bootstrap"
