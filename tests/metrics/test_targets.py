"""The kinds of targets: outputs, evaluation and storage."""

import numpy as np
import pytest
import torch

from transxnet.metrics.targets import ClassTargets, MultiLabelTargets, RegressionTargets, Targets, targets_of

LOGITS = torch.tensor([[0.0, 2.0], [-1.0, 1.0]])


def test_logits_are_activated_by_the_kind():
    assert torch.equal(ClassTargets().activate(LOGITS), LOGITS.softmax(1))
    assert torch.equal(MultiLabelTargets([0.5, 0.5]).activate(LOGITS), LOGITS.sigmoid())
    assert torch.equal(RegressionTargets(10.0, 2.0).activate(LOGITS[:, :1]), torch.tensor([[10.0], [8.0]]))


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        (ClassTargets(), 7),
        (ClassTargets(1.5, 0, 0.25), 2),
        (ClassTargets(positive=0), 2),
        (MultiLabelTargets([0.25, 0.5]), 2),
        (MultiLabelTargets([0.25, 0.5], 1.5), 2),
        (RegressionTargets(3.0, 0.5), 1),
    ],
)
def test_targets_are_restored(targets, count):
    assert Targets.from_dict(targets.to_dict(), count) == targets


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "ordinal"},
        {"kind": "classes", "mean": 0.0},
        {"kind": "classes", "temperature": 0.0},
        {"kind": "classes", "temperature": float("nan")},
        {"kind": "classes", "temperature": 1.0, "positive": 2, "threshold": 0.5},
        {"kind": "classes", "temperature": 1.0, "positive": 1},
        {"kind": "classes", "positive": 2},
        {"kind": "classes", "positive": 1, "threshold": 0.5},
        {"kind": "classes", "temperature": 1.0, "positive": 1, "threshold": 2.0},
        {"kind": "multilabel", "thresholds": [0.5]},
        {"kind": "multilabel", "thresholds": [0.5, 2.0]},
        {"kind": "multilabel", "thresholds": 3},
        {"kind": "multilabel", "thresholds": [0.5, 0.5], "temperature": 0.0},
        {"kind": "regression", "mean": 0.0, "std": 1.0},
        {"mean": 0.0},
    ],
)
def test_damaged_description_is_refused(values):
    with pytest.raises((KeyError, TypeError, ValueError)):
        Targets.from_dict(values, 2)


def test_non_finite_mean_is_refused():
    with pytest.raises(ValueError, match="finite"):
        Targets.from_dict({"kind": "regression", "mean": float("nan"), "std": 1.0}, 1)


def test_regression_is_standardized_by_the_training_labels():
    labels = np.array([1, 2, 6], np.float32)
    targets = targets_of("regression", ["mass"], labels)
    assert targets == RegressionTargets(3.0, pytest.approx(labels.std()))
    assert targets_of("regression", ["mass"], np.full(3, 2.0)) == RegressionTargets(2.0, 1.0)
    weighted = targets_of("regression", ["mass"], np.array([1.0, 3.0, 99.0]), np.array([1.0, 1.0, 0.0]))
    assert weighted == RegressionTargets(2.0, 1.0)


def test_fit_chooses_thresholds_and_temperature_of_labels():
    labels, scores = np.array([[0], [1], [1]], np.float32), np.array([[0.1], [0.3], [0.4]], np.float32)
    targets = MultiLabelTargets([0.5])
    fitted, evaluation = targets.fit(targets.evaluate(["a"], [], labels, scores))
    assert fitted.thresholds == pytest.approx([0.2])
    assert evaluation.temperature == fitted.temperature
    assert evaluation.metrics()["exact_match"] == 1.0
    unknown = targets.evaluate(["a"], [], np.full((3, 1), np.nan, np.float32), scores)
    assert targets.fit(unknown)[0].temperature is None


def test_fit_chooses_temperature_and_threshold_of_classes():
    labels, second = np.array([0, 0, 1, 1]), np.array([0.1, 0.4, 0.3, 0.8], np.float32)
    before = ClassTargets().evaluate(["a", "b"], list("wxyz"), labels, np.c_[1 - second, second])
    assert before.choices is None
    targets, evaluation = ClassTargets().fit(before)
    assert (targets.positive, targets.threshold) == (1, pytest.approx(0.6))
    assert evaluation.choices == targets.choices
    assert evaluation.metrics()["specificity"] == 1.0
    assert "sensitivity" not in before.metrics()
    only = ClassTargets().evaluate(["a", "b"], list("yz"), labels[2:], np.c_[1 - second, second][2:])
    assert ClassTargets().fit(only)[0].threshold is None
    assert ClassTargets().to_dict() == {"kind": "classes"}


def test_chosen_positive_class_is_that_of_the_metrics_and_the_threshold():
    labels, second = np.array([0, 0, 0, 1]), np.array([0.1, 0.4, 0.6, 0.8], np.float32)
    targets = targets_of("classes", ["ill", "well"], labels, positive="ill")
    before = targets.evaluate(["ill", "well"], list("wxyz"), labels, np.c_[1 - second, second])
    assert before.metrics()["auprc"] == pytest.approx(1.0) and before.binary_curves().positive == 0
    fitted, evaluation = targets.fit(before)
    assert (fitted.positive, fitted.threshold) == (0, pytest.approx(0.3))
    assert evaluation.metrics()["sensitivity"] == 1.0
