"""The section of a report about calibration."""

from dataclasses import replace

import numpy as np

from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.fitted_choices import FittedChoices
from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.reports.calibration_section import calibration_section

PROBABILITIES = np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.2, 0.8]])


def test_classes_are_shown_before_and_after_scaling():
    labels = np.array([0, 1, 1, 1])
    evaluation = ClassificationEvaluation(["a", "b"], list("wxyz"), labels, PROBABILITIES)
    section = calibration_section(evaluation)
    assert section["summary"] == "Mean confidence 75.0%, accuracy 75.0%."
    assert not section["scaled"] and [len(cells) for _, cells in section["rows"]] == [1, 1]
    fitted = replace(evaluation, choices=FittedChoices.fit(labels, PROBABILITIES, 0))
    section = calibration_section(fitted)
    assert section["scaled"] and [len(cells) for _, cells in section["rows"]] == [2, 2]


def test_known_labels_are_shown_together():
    labels = np.array([[1, 0], [1, np.nan], [0, 1], [0, 1.0]])
    evaluation = MultiLabelEvaluation(["a", "b"], list("wxyz"), labels, PROBABILITIES, np.array([0.5, 0.5]))
    section = calibration_section(evaluation)
    assert section["summary"] == "Mean probability 52.9%, true labels 57.1%."
    assert [(name, cells[0][0]) for name, cells in section["rows"]] == [
        ("Expected calibration error (ECE)", "24.3%"),
        ("Brier score", "0.073"),
    ]
    scaled = calibration_section(evaluation.fitted())
    assert scaled["scaled"] and [len(cells) for _, cells in scaled["rows"]] == [2, 2]
