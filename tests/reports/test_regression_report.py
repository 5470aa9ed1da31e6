"""The report of a regression agrees with its evaluation."""

from dataclasses import replace

import numpy as np

from tests.helpers.classifier_report import sample_image, sample_report
from tests.helpers.html_page import Page
from transxnet.metrics.regression import RegressionEvaluation
from transxnet.reports import regression_report, render


def evaluation(images: int = 40) -> RegressionEvaluation:
    dice = np.random.default_rng(0)
    labels = dice.normal(50, 10, images).astype(np.float32)
    predictions = labels + dice.normal(1, 5, images).astype(np.float32)
    return RegressionEvaluation(["mass <g>"], [f"image{i:02d}.png" for i in range(images)], labels, predictions)


def test_tiles_are_the_metrics_in_the_unit_of_the_target():
    found = evaluation()
    shown = Page(render(sample_report(found))).text["dd"]
    metrics = found.metrics()
    assert f"{metrics['rmse']:#.4g}" in shown and f"{metrics['baseline_rmse']:#.4g} for always" in shown
    assert f"{metrics['r2']:.3f}" in shown


def test_largest_errors_are_shown_with_both_values():
    found = evaluation()
    text = Page(render(sample_report(found))).text["errors"]
    worst = found.largest_errors(1)[0]
    assert found.names[worst] in text
    assert f"{found.predictions[worst]:#.4g}" in text and f"{found.labels[worst]:#.4g}" in text


def test_target_name_is_escaped():
    text = render(sample_report(evaluation()))
    assert "mass &lt;g&gt;" in text and "mass <g>" not in text


def test_many_points_are_drawn_at_random(monkeypatch):
    monkeypatch.setattr(regression_report, "POINTS", 10)
    assert "10 of the 40 images, at random" in Page(render(sample_report(evaluation()))).text["predictions"]


def test_explanations_are_of_high_values_and_large_errors():
    explained = []

    def explain(index: int) -> list:
        explained.append(index)
        return [("image", sample_image(index)), ("stage 4", sample_image(index))]

    found = evaluation()
    shown = Page(render(replace(sample_report(found), explain=explain))).text["explanations"]
    assert "Highest predictions" in shown and "Largest errors" in shown
    assert explained[0] == found.predictions.argmax() and explained[4:] == found.largest_errors(4).tolist()


def test_undefined_r2_has_no_tile():
    found = RegressionEvaluation(["mass"], ["a", "b"], np.ones(2, np.float32), np.array([1, 2], np.float32))
    text = Page(render(sample_report(found))).text["dt"]
    assert "RMSE" in text and "R2" not in text
