"""Confidence intervals and tests: bootstrap over groups, DeLong, McNemar, and Holm's correction."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import DegenerateDataWarning, binomtest, bootstrap, norm, rankdata

CONFIDENCE = 0.95
_BATCH = 10_000_000  # numbers of a batch of resamples in memory


@dataclass(frozen=True)
class Difference:
    """A paired difference with its 95% interval and its two-sided p-value."""

    value: float
    low: float
    high: float
    p: float


def bootstrap_groups(
    groups: np.ndarray, statistic: Callable[[np.ndarray], Sequence[float]], resamples: int, seed: int
) -> np.ndarray:
    """Compute a statistic of resampled images (resamples, K); images of one group are drawn together.

    Args:
        groups: (N,) group of each image; of single images, their indices.
        statistic: maps the indices of the drawn images, with repetitions, to K values.
        resamples: number of resamples.
        seed: seed of the resamples.
    """
    numbers = np.unique(groups, return_inverse=True)[1]
    order = np.argsort(numbers, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(numbers))[:-1])

    def of_groups(drawn: np.ndarray) -> np.ndarray:
        return np.array(statistic(np.concatenate([members[g] for g in drawn])), np.float64)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # of scipy's interval, which is not used
        result = bootstrap(
            (np.arange(len(members)),),
            of_groups,
            n_resamples=resamples,
            batch=max(1, _BATCH // len(members)),
            vectorized=False,
            method="percentile",
            random_state=np.random.default_rng(seed),
        )
    return np.moveaxis(result.bootstrap_distribution, -1, 0)


def percentile_interval(distribution: np.ndarray) -> tuple[float, float]:
    """Return the 95% percentile interval of resampled values (resamples,); NaN where the value is undefined."""
    known = distribution[~np.isnan(distribution)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def bootstrap_difference(value: float, distribution: np.ndarray) -> Difference:
    """Return a difference with the percentile interval and the p-value of its resampled values (resamples,).

    The p-value is twice the smaller share of resamples on one side of 0, each counted with one resample more (Davison
    and Hinkley 1997, sec. 4.2.3), so that it is never 0.
    """
    known = distribution[~np.isnan(distribution)]
    side = min((known <= 0).sum(), (known >= 0).sum()) + 1
    return Difference(value, *percentile_interval(distribution), p=min(1.0, 2 * side / (len(known) + 1)))


def delong(first: np.ndarray, second: np.ndarray, positive: np.ndarray) -> Difference:
    """Compare the AUROC of two models on the same images (DeLong et al. 1988), first minus second.

    With several runs of each model, their mean AUROCs are compared: the mean is a U-statistic too, and its components
    are the means of the runs' components.

    Args:
        first: (R, N) scores of the runs of the first model.
        second: (S, N) scores of the second.
        positive: (N,) whether each image is of the positive class.
    """
    components = [_delong_components(scores, positive) for scores in (first, second)]
    of_positive, of_negative = (components[0][i] - components[1][i] for i in (0, 1))
    value = float(of_positive.mean())
    variance = of_positive.var(ddof=1) / len(of_positive) + of_negative.var(ddof=1) / len(of_negative)
    error = float(np.sqrt(variance))
    z = norm.ppf((1 + CONFIDENCE) / 2)
    p = 2 * float(norm.sf(abs(value) / error)) if error else float(value == 0)
    return Difference(value, value - z * error, value + z * error, p)


def _delong_components(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, averaged over the runs, the share of the other class that each positive and negative is right of."""
    m, n = int(positive.sum()), int((~positive).sum())
    of_positive, of_negative = np.zeros(m), np.zeros(n)
    for row in scores:
        ranks = rankdata(row)
        of_positive += (ranks[positive] - rankdata(row[positive])) / n
        of_negative += 1 - (ranks[~positive] - rankdata(row[~positive])) / m
    return of_positive / len(scores), of_negative / len(scores)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """Return the exact two-sided p-value that two models are equally often correct, from (N,) flags of each."""
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    discordant = only_first + only_second
    return float(binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979), in the same order."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))))
    return adjusted.tolist()
