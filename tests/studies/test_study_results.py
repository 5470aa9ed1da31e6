import numpy as np
import pytest
from scipy.special import softmax

from transxnet.metrics.publication_metrics import ScoredImages
from transxnet.studies.arms import Arm
from transxnet.studies.fold_results import ArmResult, FittedChoices, FoldResult
from transxnet.studies.folds import Folds
from transxnet.studies.study_results import Estimate, compare_with_best, estimate, find_best

N = 200


def make_arm(name, noise, labels, seeds=(0,)):
    results = []
    for seed in seeds:
        random = np.random.default_rng([seed, int(10 * noise)])
        logits = np.eye(2)[labels] + random.normal(0, noise, (N, 2))
        probabilities = softmax(logits, axis=1).astype(np.float32)
        images = ScoredImages(labels, probabilities, probabilities.astype(float), 1, probabilities[:, 1] >= 0.5)
        for fold in (1, 2):
            outer = np.arange(fold - 1, N, 2)
            results.append(FoldResult(fold, seed, FittedChoices(1.0, 1, 0.5), outer, images.take(outer), []))
    return ArmResult(Arm(name, {"model": name}), seeds, results)


def make_study(seeds=(0,), groups=None):
    labels = (np.random.default_rng(0).random(N) < 0.4).astype(int)
    arms = [make_arm(name, noise, labels, seeds) for name, noise in (("good", 0.8), ("fair", 1.2), ("poor", 2.5))]
    folds = Folds([str(i) for i in range(N)], labels, groups, 1 + np.arange(N) % 2)
    rows, drawn, names = estimate([arm.pooled for arm in arms], folds.units, 200, 0)
    estimates = {arm.arm.name: row for arm, row in zip(arms, rows, strict=True)}
    return arms, folds, estimates, drawn, names


def test_estimates_are_means_over_the_seeds_within_their_intervals():
    arms, _, estimates, _, names = make_study(seeds=(0, 1))
    for arm in arms:
        for name in names:
            found = estimates[arm.arm.name][name]
            assert found.value == pytest.approx(np.mean([images.metrics()[name] for images in arm.pooled]))
            if name not in ("ece", "ece_scaled"):  # resamples have a larger calibration error
                assert found.low < found.value < found.high


def test_best_arm_has_the_best_value():
    _, _, estimates, _, _ = make_study()
    assert find_best(estimates, "auroc") == "good"
    assert find_best(estimates, "brier") == "good"
    assert find_best({"a": {"ece": Estimate(0.2, 0, 1)}, "b": {"ece": Estimate(0.1, 0, 1)}}, "ece") == "b"
    assert find_best({"a": {"auroc": Estimate(float("nan"), 0, 1)}}, "auroc") is None


def test_comparisons_have_the_sign_the_test_and_adjusted_p_values():
    arms, folds, estimates, drawn, names = make_study()
    found = compare_with_best(arms, folds, "good", ["auroc", "accuracy", "mcc"], estimates, drawn, names)
    assert [(each.metric, each.arm, each.test) for each in found] == [
        (metric, arm, test)
        for metric, test in (("auroc", "DeLong"), ("accuracy", "McNemar"), ("mcc", "paired bootstrap"))
        for arm in ("fair", "poor")
    ]
    for each in found:
        value = estimates[each.arm][each.metric].value - estimates["good"][each.metric].value
        assert each.difference.value == pytest.approx(value, abs=1e-6) and value < 0
        assert each.difference.low <= each.difference.value <= each.difference.high
        assert each.difference.p <= each.adjusted <= 2 * each.difference.p
    assert found[1].adjusted < 0.001  # "poor" is clearly worse


def test_groups_and_seeds_use_the_bootstrap():
    for seeds, groups, expected in (
        ((0,), np.arange(N) // 4, ["paired bootstrap"] * 2),
        ((0, 1), None, ["DeLong", "paired bootstrap"]),
    ):
        arms, folds, estimates, drawn, names = make_study(seeds, groups)
        found = compare_with_best(arms[:2], folds, "good", ["auroc", "accuracy"], estimates, drawn, names)
        assert [each.test for each in found] == expected
