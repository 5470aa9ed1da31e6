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
from transxnet.metrics.metric_names import format_metric
from transxnet.reports import render
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(("num_classes", "weights"), [(2, True), (10, False)])
def test_numbers_are_those_of_the_evaluation(num_classes, weights):
    evaluation = sample_evaluation(num_classes, images=200, weights=weights)
    page = Page(render(sample_report(evaluation)))
    metrics = evaluation.metrics()
    assert ("weighted_accuracy" in metrics) == weights
    for name, value in metrics.items():
        assert format_metric(name, value) in page.text["metrics"]
    for name in ("accuracy", "balanced_accuracy", "f1"):
        assert f"{100 * metrics[name]:.1f}%" in page.text["dd"]
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
        f"Expected calibration error (ECE){100 * float(error):.1f}%"
        in Page(render(sample_report(evaluation))).text["calibration"]
    )


def test_a_thousand_classes_stay_small():
    text = render(sample_report(sample_evaluation(1000, images=2000, skill=6)))
    assert len(text.encode()) < 2_000_000
    Page(text)


def explanations(index: int) -> list[tuple[str, Image.Image]]:
    return [(name, sample_image(index)) for name in ("image", "stage 4", "local branch", "global branch")]


def explained(evaluation: ClassificationEvaluation) -> str:
    page = render(replace(sample_report(evaluation), explain=explanations))
    return page[page.index('<section id="explanations">') : page.index('<section id="calibration">')]


def test_explanations_of_the_most_confident_predictions_of_each_class():
    evaluation = sample_evaluation(3, images=80)
    section = explained(evaluation)
    shown = [i for label in range(3) for correct in (True, False) for i in evaluation.most_confident(1, correct, label)]
    assert len(shown) == 6
    assert re.findall(r'<div class="name">(.*?)</div>', section) == [evaluation.names[i] for i in shown]
    assert section.count("data:image/jpeg") == 4 * 6
    assert re.findall("<h3>(.*?)</h3>", section) == [f"True class: kind {i}" for i in range(3)]
    notes = re.findall(r"<div>((?:Correct|Wrong): .*?)</div>", section)
    for i, note in zip(shown, notes, strict=True):
        kind = "Correct" if evaluation.correct[i] else "Wrong"
        assert note == f"{kind}: kind {evaluation.predictions[i]}, {100 * float(evaluation.confidence[i]):.1f}%"
    assert '<section id="explanations">' not in render(sample_report(evaluation))


def test_maps_of_the_branches_are_folded():
    section = explained(sample_evaluation(images=80))
    for details in re.findall(r"<details>.*?</details>", section, flags=re.DOTALL):
        assert re.findall(r"<figcaption>(.*?)</figcaption>", details) == ["local branch", "global branch"]
    unfolded = re.sub(r"<details>.*?</details>", "", section, flags=re.DOTALL)
    assert re.findall(r"<figcaption>(.*?)</figcaption>", unfolded) == ["image", "stage 4"] * 4


def test_of_many_classes_those_with_the_lowest_recall_are_explained():
    labels = np.repeat(np.arange(8), 4)
    probabilities = np.full((32, 9), 0.05, np.float32)
    predictions = labels.copy()
    predictions[[1, 5, 9, 13, 17, 21, 22]] = 8  # recall 3/4 of classes 0 to 4, 2/4 of class 5, 1 of 6 and 7
    probabilities[np.arange(32), predictions] = 0.6
    names = [f"kind {i}" for i in range(9)]
    section = explained(ClassificationEvaluation(names, [str(i) for i in range(32)], labels, probabilities))
    assert re.findall("<h3>(.*?)</h3>", section) == [f"True class: kind {i}" for i in range(6)]


def test_thresholds_of_two_classes():
    second = np.array([0.1, 0.2, 0.355, 0.6, 0.705, 0.9], np.float32)  # see tests/metrics/test_classification.py
    evaluation = ClassificationEvaluation(
        ["good", "<b>"], [str(i) for i in range(6)], np.array([0, 0, 1, 0, 1, 1]), np.c_[1 - second, second]
    )
    text = render(sample_report(evaluation))
    section = text[text.index('<section id="thresholds">') : text.index('<section id="mistakes">')]
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', section)
    at_recall, at_precision = ["0.35", "75.0%", "100.0%"], ["0.7", "100.0%", "66.7%"]
    assert [(name, re.findall(">([^<]+)<", cells)) for name, cells in rows] == [
        *((f"recall of at least {wanted}%", at_recall) for wanted in (80, 90, 95)),
        *((f"precision of at least {wanted}%", at_precision) for wanted in (80, 90, 95)),
    ]
    assert "Positive class: &lt;b&gt;" in section and "Confirm their precision and recall on other images" in section
    assert "AUROC): 0.889" in section and "(AP): 0.917" in section
    assert "threshold 0.355\nrecall 100.0%\nprecision 75.0%" in section
    assert "threshold 0.705\nfalse positive rate 0.0%\nrecall 66.7%" in section
    assert '<section id="thresholds">' not in render(sample_report(sample_evaluation(3)))


def test_images_of_each_class_in_both_sets():
    evaluation = sample_evaluation(images=80)
    counts = np.bincount(evaluation.labels).tolist()
    text = Page(render(replace(sample_report(evaluation), train_counts=[30, 10]))).text["data"]
    assert "kind 030 (75.0%)" + f"{counts[0]} ({100 * counts[0] / 80:.1f}%)" in text
    assert "kind 110 (25.0%)" + f"{counts[1]} ({100 * counts[1] / 80:.1f}%)" in text
    assert "Training images" not in Page(render(sample_report(evaluation))).text["data"]


def test_augmented_training_images_have_their_class():
    report = replace(sample_report(), train_images=[("<b>", sample_image(1)), ("other", sample_image(2))])
    page = render(report)
    section = page[page.index('<section id="data">') : page.index('<section id="confusion">')]
    assert re.findall(r'alt="(.*?)"', section) == ["training image, &lt;b&gt;", "training image, other"]
    assert section.count("data:image/jpeg") == 2


def test_few_classes_show_matrix_and_most_confused_pairs():
    labels = np.repeat(np.arange(3), 4)
    predictions = np.array([0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2])
    evaluation = ClassificationEvaluation(
        ["a", "b", "c"], [str(i) for i in range(12)], labels, np.eye(3, dtype=np.float32)[predictions]
    )
    page = render(sample_report(evaluation))
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td[^>]*>(\d+)</td>.*?>([\d.]+%)<", page)
    assert rows == [("a", "b", "2", "50.0%"), ("b", "c", "1", "25.0%")]
    assert 'aria-label="Confusion matrix"' in page


def test_page_states_why_there_are_no_explanations():
    def missing(index: int) -> list[tuple[str, Image.Image]]:
        raise UserError("Install it by: pip install 'transxnet[explain]'")

    page = render(replace(sample_report(), explain=missing))
    assert "Not shown. Install it by: pip install &#39;transxnet[explain]&#39;" in page

    def unreadable(index: int) -> list[tuple[str, Image.Image]]:
        raise OSError("deleted")

    assert "Not shown. None of the images can be read." in render(replace(sample_report(), explain=unreadable))
