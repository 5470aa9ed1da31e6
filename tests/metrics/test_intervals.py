"""Bootstrap intervals of the metrics of all evaluations, against a loop over resamples."""

from dataclasses import replace

import numpy as np
import pytest

from transxnet.metrics import intervals
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.metrics.regression import RegressionEvaluation

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.integers(0, 2, 80)
SCORES = np.clip(0.3 + 0.4 * LABELS + RANDOM.normal(0, 0.25, 80), 0, 1).astype(np.float32)
CLASSES = ClassificationEvaluation(["a", "b"], [""] * 80, LABELS, np.c_[1 - SCORES, SCORES])


@pytest.fixture(autouse=True)
def resamples(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 200)


def test_accuracy_interval_is_that_of_the_binomial_distribution():
    low, high = CLASSES.intervals.limits["accuracy"]
    accuracy = CLASSES.metrics()["accuracy"]
    half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / 80)
    assert (low, high) == pytest.approx((accuracy - half, accuracy + half), abs=0.03)
    assert CLASSES.intervals.method == "95% intervals: bootstrap over 80 images, 200 resamples, seed 0."


def test_intervals_of_few_images_come_with_a_caution():
    few = ClassificationEvaluation(["a", "b"], [""] * 8, LABELS[:8], CLASSES.probabilities[:8])
    assert few.intervals.method.endswith("8 images, 200 resamples, seed 0; with so few, they are too narrow.")


def test_intervals_are_reproducible_and_omit_baselines():
    again = replace(CLASSES).intervals
    assert again == CLASSES.intervals
    assert {"auroc", "auprc", "f1", "mcc", "ece", "brier"} < set(again.limits)
    assert "majority" not in again.limits


def test_images_of_a_group_are_drawn_together():
    """Copies of each image in its group add no information: the interval stays, without groups it shrinks."""
    order = np.repeat(np.arange(80), 5)
    many = replace(CLASSES, labels=LABELS[order], probabilities=CLASSES.probabilities[order], names=[""] * 400)
    grouped = replace(many, groups=order)
    assert grouped.intervals.limits["accuracy"] == pytest.approx(CLASSES.intervals.limits["accuracy"])
    width = {name: np.ptp(each.intervals.limits["accuracy"]) for name, each in (("one", many), ("five", grouped))}
    assert width["one"] < 0.7 * width["five"]
    assert grouped.intervals.to_dict()["drawn"] == "groups"
    assert grouped.intervals.units == 80


def test_metric_without_errors_or_one_image_has_no_interval():
    perfect = replace(CLASSES, probabilities=np.eye(2, dtype=np.float32)[LABELS])
    assert "accuracy" not in perfect.intervals.limits
    one = replace(CLASSES, labels=LABELS[:1], probabilities=CLASSES.probabilities[:1])
    assert one.intervals.limits == {}


def test_labels_and_values_have_intervals_around_their_metrics():
    labels = np.stack([LABELS, 1 - LABELS], 1).astype(np.float32)
    labels[:5, 1] = np.nan
    several = MultiLabelEvaluation(["a", "b"], [""] * 80, labels, CLASSES.probabilities[:, ::-1], np.array([0.5, 0.5]))
    values = RegressionEvaluation(["x"], [""] * 80, LABELS.astype(np.float32), SCORES)
    for evaluation in (several, values):
        limits, metrics = evaluation.intervals.limits, evaluation.metrics()
        assert set(limits) == set(metrics) - {"baseline_rmse"}
        assert all(low < metrics[name] < high for name, (low, high) in limits.items())


def test_many_scores_have_no_interval_of_the_ranking(monkeypatch):
    monkeypatch.setattr("transxnet.metrics.classification.MAX_RANKED", 79)
    assert "auroc" in CLASSES.metrics()
    assert "auroc" not in replace(CLASSES).intervals.limits
    assert "accuracy" in replace(CLASSES).intervals.limits
