"""The report of a classifier agrees with its evaluation."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_calibration_error

from tests.helpers.classifier_report import sample_evaluation, sample_image, sample_report
from tests.helpers.html_page import Page
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.reports import render
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(("num_classes", "weights"), [(2, True), (10, False)])
def test_numbers_are_those_of_the_evaluation(num_classes, weights):
    evaluation = sample_evaluation(num_classes, images=200, weights=weights)
    page = Page(render(sample_report(evaluation)))
    metrics = evaluation.metrics()
    assert ("weighted_accuracy" in metrics) == weights
    for value in metrics.values():
        assert f"{100 * value:.1f}%" in page.text["dd"]
    per_class = evaluation.per_class()
    for column in ("precision", "recall", "f1"):
        for value in per_class[column]:
            assert f"{100 * value:.1f}%" in page.text["classes"]
    wrong = int((evaluation.predictions != evaluation.labels).sum())
    assert f"The 12 of {wrong} wrong predictions with the highest confidence" in page.text["mistakes"]


def test_confusion_matrix_holds_the_counts_by_row():
    evaluation = sample_evaluation(3, images=100)
    cells = re.findall(r'<td class="(none|correct|wrong)"[^>]*>(?:<b>)?(\d+)', render(sample_report(evaluation)))
    np.testing.assert_array_equal(np.array([int(count) for _, count in cells]).reshape(3, 3), evaluation.confusion)
    assert [kind for kind, _ in cells[::4]] == ["correct"] * 3


def test_many_classes_show_the_most_confused_pairs():
    labels = np.repeat(np.arange(30), 10)
    predictions = labels.copy()
    predictions[:4] = 7  # four of class 0
    predictions[10:12] = 3  # two of class 1
    names = [f"kind {i}" for i in range(30)]
    evaluation = ClassificationEvaluation(
        names, [str(i) for i in range(300)], labels, np.eye(30, dtype=np.float32)[predictions]
    )
    page = render(sample_report(evaluation))
    confusion = page[page.index('<section id="confusion">') : page.index('<section id="classes">')]
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td[^>]*>(\d+)</td>.*?>([\d.]+%)<", confusion)
    assert rows == [("kind 0", "kind 7", "4", "40.0%"), ("kind 1", "kind 3", "2", "20.0%")]


def test_mistakes_are_the_most_confident_with_thumbnails():
    evaluation = sample_evaluation()
    text = render(sample_report(evaluation))
    shown = re.findall(r'alt="([^"]*)"', text)
    assert shown == [evaluation.names[i] for i in evaluation.most_confident(12, correct=False)]
    images = re.findall(r"data:image/jpeg;base64,([^\"]*)", text)
    assert len(images) == 12
    for data in images:
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (192, 128)


def test_page_without_mistakes():
    evaluation = sample_evaluation(skill=50)
    text = render(sample_report(evaluation))
    assert "every validation image was classified correctly" in text
    assert "<img" not in text
    many = sample_evaluation(40, skill=50)
    assert "No confusions." in render(sample_report(many))


def test_unreadable_image_becomes_a_placeholder():
    def unreadable(index: int) -> Image.Image:
        raise OSError("deleted")

    text = render(sample_report(image=unreadable))
    assert text.count(">unreadable image<") == 12
    assert "<img" not in text


def test_class_without_images_has_dashes():
    evaluation = sample_evaluation()
    evaluation = replace(
        evaluation,
        class_names=[*evaluation.class_names, "unseen"],
        probabilities=np.pad(evaluation.probabilities, ((0, 0), (0, 1))),
    )
    page = Page(render(sample_report(evaluation)))
    assert "unseen\u2013\u2013\u20130" in page.text["classes"]


def test_calibration_error_matches_torchmetrics():
    evaluation = sample_evaluation(5, images=300)
    error = multiclass_calibration_error(
        torch.from_numpy(evaluation.probabilities),
        torch.from_numpy(evaluation.labels),
        num_classes=5,
        n_bins=10,
        norm="l1",
    )
    assert (
        f"Expected calibration error (ECE): {100 * float(error):.1f}%"
        in Page(render(sample_report(evaluation))).text["calibration"]
    )


def test_a_thousand_classes_stay_small():
    text = render(sample_report(sample_evaluation(1000, images=2000, skill=6)))
    assert len(text.encode()) < 2_000_000
    Page(text)


def explanations(index: int) -> list[tuple[str, Image.Image]]:
    return [("image", sample_image(index)), ("stage 4", sample_image(index))]


def test_explanations_of_the_most_confident_predictions():
    evaluation = sample_evaluation(images=80)
    page = render(replace(sample_report(evaluation), explain=explanations))
    section = page[page.index('<section id="explanations">') : page.index('<section id="calibration">')]
    first = [*evaluation.most_confident(3, correct=True), *evaluation.most_confident(3, correct=False)]
    assert re.findall(r'<div class="name">(.*?)</div>', section) == [evaluation.names[i] for i in first]
    assert section.count("data:image/jpeg") == 2 * 6
    assert section.count("true class") == 3
    assert '<section id="explanations">' not in render(sample_report(evaluation))


def test_page_states_why_there_are_no_explanations():
    def missing(index: int) -> list[tuple[str, Image.Image]]:
        raise UserError("Install it by: pip install 'transxnet[explain]'")

    page = render(replace(sample_report(), explain=missing))
    assert "Not shown. Install it by: pip install &#39;transxnet[explain]&#39;" in page

    def unreadable(index: int) -> list[tuple[str, Image.Image]]:
        raise OSError("deleted")

    assert "Not shown. None of the images can be read." in render(replace(sample_report(), explain=unreadable))
