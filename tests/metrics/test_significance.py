import numpy as np
import pytest
from scipy.stats import binomtest, mannwhitneyu, norm

from transxnet.metrics.significance import (
    bootstrap_difference,
    bootstrap_groups,
    delong,
    holm,
    mcnemar,
    percentile_interval,
)


def draw_scores(count=200, seed=0):
    random = np.random.default_rng(seed)
    positive = random.random(count) < 0.3
    common = random.normal(0, 1, count) + positive
    scores = np.stack([common + random.normal(0, noise, count) for noise in (0.5, 1, 1.5, 2)])
    return np.round(scores, 1), positive  # rounded, so that there are ties


def kernel(scores, positive):
    """DeLong's kernel of each positive and negative, in its definition."""
    a, b = scores[positive][:, None], scores[~positive][None]
    return (a > b) + 0.5 * (a == b)


def test_bootstrap_of_a_mean_has_its_standard_error():
    values = np.random.default_rng(0).normal(5, 2, 400)
    drawn = bootstrap_groups(np.arange(400), lambda i: [values[i].mean(), -values[i].mean()], 2000, 0)
    assert drawn.shape == (2000, 2)
    assert drawn[:, 0].std() == pytest.approx(values.std() / 20, rel=0.05)
    np.testing.assert_array_equal(drawn[:, 0], -drawn[:, 1])  # the same resamples for all values
    low, high = percentile_interval(drawn[:, 0])
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.07)


def test_bootstrap_draws_whole_groups():
    groups = np.repeat([7, 3, 9, 1], [1, 2, 3, 4])
    seen = []
    bootstrap_groups(groups, lambda i: [seen.append(np.bincount(i, minlength=10)) or 0.0], 50, 0)
    for counts in seen:
        own = [counts[groups == group] for group in np.unique(groups)]
        assert all(len(set(each)) == 1 for each in own)
        assert sum(each[0] for each in own) == 4
    # equal values within groups: the standard error is that of the groups
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 100), 10)
    drawn = bootstrap_groups(np.repeat(np.arange(100), 10), lambda i: [values[i].mean()], 2000, 0)
    assert drawn.std() == pytest.approx(values.std() / 10, rel=0.07)


def test_bootstrap_depends_on_its_seed_only():
    first, again, other = (bootstrap_groups(np.arange(9), lambda i: [i.mean()], 100, seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_undefined_resamples_are_ignored():
    drawn = np.array([np.nan, *np.linspace(0, 1, 101)])
    assert percentile_interval(drawn) == pytest.approx((0.025, 0.975))
    assert np.isnan(percentile_interval(np.full(3, np.nan))).all()


def test_bootstrap_p_value_counts_resamples_beyond_zero():
    drawn = np.array([-1.0, *np.ones(99)])
    found = bootstrap_difference(0.5, drawn)
    assert (found.value, found.p) == (0.5, pytest.approx(2 * 2 / 101))
    assert bootstrap_difference(1.0, np.ones(99)).p == pytest.approx(2 / 100)
    assert bootstrap_difference(0.0, np.zeros(99)).p == 1.0


def test_delong_is_its_definition():
    scores, positive = draw_scores()
    kernels = [kernel(row, positive) for row in scores[:2]]
    found = delong(scores[:1], scores[1:2], positive)
    difference = kernels[0] - kernels[1]
    variance = difference.mean(1).var(ddof=1) / positive.sum() + difference.mean(0).var(ddof=1) / (~positive).sum()
    assert found.value == pytest.approx(difference.mean(), abs=1e-12)
    assert found.p == pytest.approx(2 * norm.sf(abs(difference.mean()) / np.sqrt(variance)), rel=1e-9)
    assert found.high - found.low == pytest.approx(2 * norm.ppf(0.975) * np.sqrt(variance), rel=1e-9)


def test_delong_compares_the_aurocs_of_scipy_and_sklearn():
    roc_auc_score = pytest.importorskip("sklearn.metrics").roc_auc_score
    scores, positive = draw_scores()
    areas = [
        mannwhitneyu(row[positive], row[~positive]).statistic / positive.sum() / (~positive).sum() for row in scores
    ]
    assert areas == pytest.approx([roc_auc_score(positive, row) for row in scores])
    assert delong(scores[:2], scores[2:], positive).value == pytest.approx(np.mean(areas[:2]) - np.mean(areas[2:]))


def test_delong_of_several_runs_is_the_variance_of_their_mean():
    scores, positive = draw_scores()
    difference = np.mean([kernel(row, positive) for row in scores[:2]], 0) - kernel(scores[2], positive)
    variance = difference.mean(1).var(ddof=1) / positive.sum() + difference.mean(0).var(ddof=1) / (~positive).sum()
    found = delong(scores[:2], scores[2:3], positive)
    assert found.high - found.value == pytest.approx(norm.ppf(0.975) * np.sqrt(variance), rel=1e-9)


def test_delong_of_equal_scores_finds_no_difference():
    scores, positive = draw_scores()
    found = delong(scores[:1], scores[:1], positive)
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_delong_rejects_a_true_hypothesis_at_its_level():
    rejected = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        positive = np.arange(120) < 40
        common = random.normal(0, 1, 120) + positive
        pair = common + random.normal(0, 1, (2, 120))
        rejected += delong(pair[:1], pair[1:], positive).p < 0.05
    assert 0.02 < rejected / 300 < 0.09


def test_mcnemar_is_the_binomial_test_of_discordant_images():
    first = np.repeat([True, True, False, False], [50, 12, 3, 20])
    second = np.repeat([True, False, True, False], [50, 12, 3, 20])
    assert mcnemar(first, second) == pytest.approx(binomtest(12, 15).pvalue)
    assert mcnemar(first, second) == pytest.approx(2 * sum([1, 15, 105, 455]) / 2**15)
    assert mcnemar(first, first) == 1.0


def test_holm_multiplies_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
