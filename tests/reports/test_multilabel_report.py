"""The report of a multi-label classifier agrees with its evaluation."""

from dataclasses import replace

import numpy as np
from PIL import Image

from tests.helpers.classifier_report import sample_image, sample_report
from tests.helpers.html_page import Page
from transxnet.metrics.multilabel import MultiLabelEvaluation
from transxnet.reports import render
from transxnet.utils.errors import UserError


def evaluation(images: int = 60) -> MultiLabelEvaluation:
    dice = np.random.default_rng(0)
    labels = (dice.random((images, 3)) < [0.3, 0.6, 0.0]).astype(np.float32)
    probabilities = (0.3 * labels + 0.7 * dice.random(labels.shape)).astype(np.float32)
    labels[:5, 0] = np.nan
    names = [f"image{i:02d}.png" for i in range(images)]
    found = MultiLabelEvaluation(["crack", "<b>dust</b>", "never"], names, labels, probabilities, np.full(3, 0.5))
    return found.fitted()


def page(report) -> Page:
    return Page(render(report))


def test_table_has_the_metrics_of_each_label():
    found = evaluation()
    shown = page(replace(sample_report(found), train_counts=[30, 1234, 0]))
    per_class = found.per_class()
    for i in range(2):
        for name in ("auroc", "ap", "f1", "precision", "recall"):
            assert f"{100 * per_class[name][i]:.1f}%" in shown.text["labels"]
        assert f"{found.thresholds[i]:.3f}" in shown.text["labels"]
    assert "1,234" in shown.text["labels"]
    assert "optimistic" in shown.text["labels"]
    for name in ("macro_ap", "macro_auroc", "f1", "exact_match"):
        assert f"{100 * found.metrics()[name]:.1f}%" in shown.text["dd"]


def test_label_names_are_escaped_and_curves_have_own_ids():
    text = render(sample_report(evaluation()))
    assert "<b>dust" not in text and "&lt;b&gt;dust" in text
    assert text.count('aria-label="ROC curve"') == 2  # the label that never occurs has none
    assert "roc-0-" in text and "roc-1-" in text


def test_mistakes_name_missed_and_false_labels():
    found = evaluation()
    shown = page(sample_report(found)).text["mistakes"]
    count = int(found.wrong.any(axis=1).sum())
    assert f"The 12 of {count} images with a wrong label" in shown
    assert "missed" in shown and "false" in shown


def test_explanations_are_of_the_label():
    explained = []

    def explain(index: int, label: int | None = None) -> list[tuple[str, Image.Image]]:
        explained.append((index, label))
        return [("image", sample_image(index)), ("stage 4", sample_image(index))]

    found = evaluation()
    shown = page(replace(sample_report(found), explain=explain)).text["explanations"]
    assert "Label: crack" in shown
    best = int(np.nanargmax(np.where(found.labels[:, 0] == 1, found.probabilities[:, 0], np.nan)))
    assert explained[0] == (best, 0)
    assert {label for _, label in explained} == {0, 1}


def test_failing_explanation_gives_its_reason():
    def explain(index: int, label: int | None = None) -> list:
        raise UserError("grad-cam is not installed.")

    assert (
        "grad-cam is not installed." in page(replace(sample_report(evaluation()), explain=explain)).text["explanations"]
    )
