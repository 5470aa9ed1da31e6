"""Likely label errors by the probabilities of a model."""

import numpy as np

from transxnet.checking.label_errors import label_error_findings
from transxnet.metrics.classification import ClassificationEvaluation


def test_swapped_labels_are_ranked_first():
    dice = np.random.default_rng(0)
    true = np.repeat([0, 1, 2], 60)
    logits = dice.normal(0, 1, (180, 3)) + 4 * np.eye(3)[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels, swapped = true.copy(), dice.choice(180, 12, replace=False)
    labels[swapped] = (labels[swapped] + 1) % 3
    names = [str(i) for i in range(180)]
    evaluation = ClassificationEvaluation(["a", "b", "c"], names, labels, probabilities)
    found = [finding.images[0] - 1000 for finding in label_error_findings(evaluation, 1000 + np.arange(180))]
    assert len(set(found[:10]) & set(swapped.tolist())) == 10  # precision of the first ten
    assert len(set(found) & set(swapped.tolist())) >= 11  # recall
    assert len(found) <= 15


def test_confident_and_correct_labels_are_no_errors():
    evaluation = ClassificationEvaluation(["a", "b"], ["x", "y"], np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]]))
    assert label_error_findings(evaluation, np.arange(2)) == []
