"""95% bootstrap intervals of the metrics of an evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from transxnet.metrics.significance import bootstrap_groups, percentile_interval
from transxnet.utils.quantities import format_count

RESAMPLES = 1000
"""Number of bootstrap resamples."""

SEED = 0
"""Seed of the resamples."""

FEW = 30
"""Below this number of images or groups, bootstrap intervals are clearly too narrow."""

MAX_RANKED = 500_000
"""Most scores, images times classes, with intervals of AUROC and AP: each resample sorts them, in about 0.1 s."""

BASELINES = ("majority", "baseline_rmse")
"""Metrics of the data, which have no interval."""


@dataclass(frozen=True)
class MetricIntervals:
    """The 95% intervals of metrics.

    Attributes:
        limits: lower and upper limit of each metric that has an interval.
        resamples: number of bootstrap resamples.
        units: number of drawn groups or images.
        grouped: whether groups were drawn.
    """

    limits: dict[str, tuple[float, float]]
    resamples: int
    units: int
    grouped: bool

    @property
    def drawn(self) -> str:
        """What is drawn, in words: "120 groups"."""
        return format_count(self.units, "group" if self.grouped else "image")

    @property
    def method(self) -> str:
        """How the intervals were computed, in a sentence."""
        caution = "; with so few, they are too narrow" if self.units < FEW else ""
        return f"95% intervals: bootstrap over {self.drawn}, {self.resamples:,} resamples, seed {SEED}{caution}."

    def to_dict(self) -> dict[str, Any]:
        """Return the content as plain data."""
        return {
            "resamples": self.resamples,
            "seed": SEED,
            "drawn": "groups" if self.grouped else "images",
            "units": self.units,
            "limits": {name: list(limits) for name, limits in self.limits.items()},
        }


class Resampled(ABC):
    """The results of a model on N images, whose metrics have bootstrap intervals.

    Attributes:
        groups: (N,) group of each image, or None; images of one group are drawn together.
    """

    groups: np.ndarray | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Compute the metrics that are defined for these images."""

    @abstractmethod
    def resampler(self) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return the metrics as a function of the indices of drawn images, which may repeat."""

    def describe_fitted(self, fitted_here: bool) -> list[str]:
        """Return sentences about what was fitted on validation images and affects the metrics.

        Args:
            fitted_here: whether these are the validation images.
        """
        return []

    @cached_property
    def intervals(self) -> MetricIntervals:
        """The 95% intervals of the metrics, from percentiles of the bootstrap.

        A metric that is equal in all resamples, as an accuracy of 100%, has none.
        """
        units = np.arange(len(self)) if self.groups is None else self.groups
        count = len(np.unique(units))
        limits = {}
        if count > 1:
            statistic = self.resampler()
            names = list(statistic(np.arange(len(self))))
            drawn = bootstrap_groups(units, lambda indices: list(statistic(indices).values()), RESAMPLES, SEED)
            found = {name: percentile_interval(values) for name, values in zip(names, drawn.T, strict=True)}
            limits = {name: pair for name, pair in found.items() if pair[0] < pair[1] and name not in BASELINES}
        return MetricIntervals(limits, RESAMPLES, count, self.groups is not None)
