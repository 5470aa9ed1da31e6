import numpy as np
import pytest
from scipy.special import softmax

from transxnet.metrics.publication_metrics import ScoredImages
from transxnet.studies.paired_comparison import Estimate, Estimates, compare_with_best, estimate

N = 200


def make_model(noise, labels, seed):
    random = np.random.default_rng([seed, int(10 * noise)])
    logits = np.eye(2)[labels] + random.normal(0, noise, (N, 2))
    probabilities = softmax(logits, axis=1).astype(np.float32)
    return ScoredImages(labels, probabilities, probabilities.astype(float), 1, probabilities[:, 1] >= 0.5)


def make_arms(seeds=(0,)):
    labels = (np.random.default_rng(0).random(N) < 0.4).astype(int)
    noise = {"good": 0.8, "fair": 1.2, "poor": 2.5}
    return {name: [make_model(value, labels, seed) for seed in seeds] for name, value in noise.items()}


def make_estimates(arms, groups=None):
    return estimate(arms, np.arange(N) if groups is None else groups, 200, 0)


def test_estimates_are_means_over_the_models_within_their_intervals():
    arms = make_arms((0, 1))
    estimates = make_estimates(arms)
    for arm, models in arms.items():
        for name, found in estimates.rows[arm].items():
            assert found.value == pytest.approx(np.mean([images.metrics()[name] for images in models]))
            if name not in ("ece", "ece_scaled"):  # resamples have a larger calibration error
                assert found.low < found.value < found.high


def test_best_arm_has_the_best_value():
    estimates = make_estimates(make_arms())
    assert estimates.best("auroc") == estimates.best("brier") == "good"
    two = Estimates(
        {"a": {"ece": Estimate(0.2, 0, 1)}, "b": {"ece": Estimate(0.1, 0, 1)}}, ["ece"], np.zeros((1, 2, 1))
    )
    assert two.best("ece") == "b"
    none = Estimates({"a": {"auroc": Estimate(float("nan"), 0, 1)}}, ["auroc"], np.zeros((1, 1, 1)))
    assert none.best("auroc") is None


def test_comparisons_have_the_sign_the_test_and_adjusted_p_values():
    arms = make_arms()
    estimates = make_estimates(arms)
    found = compare_with_best(estimates, arms, "mcc", grouped=False)
    assert [(each.metric, each.arm, each.test) for each in found] == [
        (metric, arm, test)
        for metric, test in (("mcc", "paired bootstrap"), ("auroc", "DeLong"), ("accuracy", "McNemar"))
        for arm in ("fair", "poor")
    ]
    for each in found:
        value = estimates.rows[each.arm][each.metric].value - estimates.rows["good"][each.metric].value
        assert each.difference.value == pytest.approx(value, abs=1e-6) and value < 0
        assert each.difference.low <= each.difference.value <= each.difference.high
        assert each.difference.p <= each.adjusted <= 2 * each.difference.p
    assert found[3].adjusted < 0.001  # "poor" is clearly worse


@pytest.mark.parametrize(
    ("seeds", "groups", "tests"),
    [
        ((0,), np.arange(N) // 4, ["paired bootstrap"] * 2),
        ((0, 1), None, ["DeLong", "paired bootstrap"]),
    ],
)
def test_groups_and_seeds_use_the_bootstrap(seeds, groups, tests):
    arms = {name: models for name, models in make_arms(seeds).items() if name != "poor"}
    found = compare_with_best(make_estimates(arms, groups), arms, "auroc", grouped=groups is not None)
    assert [each.test for each in found] == tests
