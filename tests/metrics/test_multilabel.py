"""Multi-label metrics, against scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, f1_score, roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from transxnet.metrics import multilabel
from transxnet.metrics.multilabel import MultiLabelEvaluation, best_thresholds


def sample(known: float = 1.0, images: int = 80, classes: int = 3) -> MultiLabelEvaluation:
    dice = np.random.default_rng(0)
    labels = (dice.random((images, classes)) < [0.2, 0.5, 0.7][:classes]).astype(np.float32)
    probabilities = (labels * 0.3 + dice.random(labels.shape) * 0.7).astype(np.float32)
    labels[dice.random(labels.shape) > known] = np.nan
    thresholds = np.array([0.4, 0.5, 0.6][:classes])
    names = [f"image{i}" for i in range(images)]
    return MultiLabelEvaluation(list("abc")[:classes], names, labels, probabilities, thresholds)


def test_metrics_equal_those_of_scikit_learn():
    evaluation = sample()
    true, scores, predicted = evaluation.labels, evaluation.probabilities, evaluation.predictions
    expected = {
        "macro_ap": average_precision_score(true, scores),
        "micro_ap": average_precision_score(true, scores, average="micro"),
        "macro_auroc": roc_auc_score(true, scores),
        "micro_auroc": roc_auc_score(true, scores, average="micro"),
        "ece": binary_calibration_error(torch.tensor(scores.ravel()), torch.tensor(true.ravel()), n_bins=10).item(),
        "brier": brier_score_loss(true.ravel(), scores.ravel()),
        "f1": f1_score(true, predicted, average="macro"),
        "micro_f1": f1_score(true, predicted, average="micro"),
        "exact_match": (true == predicted).all(axis=1).mean(),
    }
    assert evaluation.metrics() == pytest.approx(expected, abs=1e-6)


def test_unknown_labels_are_ignored():
    evaluation = sample(known=0.6)
    per_class = evaluation.per_class()
    for label in range(3):
        known = evaluation.known[:, label]
        true, scores = evaluation.labels[known, label], evaluation.probabilities[known, label]
        assert per_class["ap"][label] == pytest.approx(average_precision_score(true, scores), abs=1e-6)
        assert per_class["f1"][label] == pytest.approx(f1_score(true, scores >= evaluation.thresholds[label]))
        assert (per_class["known"][label], per_class["support"][label]) == (known.sum(), true.sum())
    flipped = np.where(evaluation.known, evaluation.probabilities, 1 - evaluation.probabilities)
    other = MultiLabelEvaluation(list("abc"), evaluation.names, evaluation.labels, flipped, evaluation.thresholds)
    assert other.metrics() == evaluation.metrics()


def test_weighted_exact_match_equals_that_of_scikit_learn():
    weights = np.linspace(0, 1, 80)
    evaluation = replace(sample(), weights=weights)
    expected = accuracy_score(evaluation.labels, evaluation.predictions, sample_weight=weights)
    assert evaluation.metrics()["weighted_exact_match"] == pytest.approx(expected)
    assert "weighted_exact_match" not in replace(evaluation, weights=np.zeros(80)).metrics()


def test_best_thresholds_have_the_highest_f1():
    evaluation = sample(known=0.8).fitted()
    best = evaluation.per_class()["f1"]
    for threshold in np.linspace(0.01, 0.99, 99):
        tried = MultiLabelEvaluation(
            list("abc"), [], evaluation.labels, evaluation.probabilities, np.full(3, threshold)
        )
        assert (tried.per_class()["f1"] <= best + 1e-9).all()


def test_best_threshold_lies_between_two_probabilities():
    labels, probabilities = np.array([[0.0], [0], [1], [1]]), np.array([[0.1], [0.2], [0.6], [0.7]], np.float32)
    assert_allclose(best_thresholds(labels, probabilities), [0.4], atol=1e-6)


def test_label_without_positives_has_no_metrics():
    labels = np.array([[0, 1], [0, 0], [np.nan, 1]], np.float32)
    probabilities = np.array([[0.1, 0.9], [0.2, 0.3], [0.9, 0.8]], np.float32)
    evaluation = MultiLabelEvaluation(["a", "b"], [], labels, probabilities, best_thresholds(labels, probabilities))
    per_class = evaluation.per_class()
    assert np.isnan([per_class["ap"][0], per_class["auroc"][0], per_class["f1"][0]]).all()
    assert evaluation.thresholds[0] == 0.5
    assert evaluation.metrics()["macro_ap"] == 1.0


def test_metrics_without_known_labels_are_omitted():
    labels = np.full((2, 2), np.nan, np.float32)
    evaluation = MultiLabelEvaluation(["a", "b"], [], labels, np.full((2, 2), 0.5, np.float32), np.full(2, 0.5))
    assert set(evaluation.metrics()) == {"micro_f1"}


def test_temperature_of_the_labels_lowers_the_calibration_error_of_overconfident_ones():
    random = np.random.default_rng(0)
    logits = random.normal(-1, 1, (3000, 2))
    labels = (random.random((3000, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    labels[::7, 0] = np.nan
    probabilities = (1 / (1 + np.exp(-4 * logits))).astype(np.float32)
    evaluation = MultiLabelEvaluation(["a", "b"], [""] * 3000, labels, probabilities, np.full(2, 0.5))
    assert "ece_scaled" not in evaluation.metrics()
    fitted = evaluation.fitted()
    metrics = fitted.metrics()
    assert fitted.temperature == pytest.approx(4, rel=0.1)
    assert metrics["ece_scaled"] < metrics["ece"] / 4 and metrics["brier_scaled"] < metrics["brier"]
    assert fitted.calibration(scaled=True).error == metrics["ece_scaled"]
    everything = fitted.resampler()(np.arange(3000))
    assert {name: everything[name] for name in metrics} == pytest.approx(metrics)
    assert fitted.describe_fitted(False)[1].endswith("of the scaling: fitted on the validation images.")


def test_many_labels_have_intervals_at_the_thresholds_only(monkeypatch):
    """Ranks and calibration of a million labels would be computed a thousand times."""
    evaluation = sample().fitted()
    monkeypatch.setattr(multilabel, "MAX_RANKED", evaluation.labels.size - 1)
    drawn = evaluation.resampler()(np.arange(len(evaluation)))
    assert set(drawn) == {"f1", "micro_f1", "exact_match"}
