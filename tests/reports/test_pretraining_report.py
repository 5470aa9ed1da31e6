"""The report of a pretraining agrees with its evaluation."""

import numpy as np
import pytest

from tests.helpers.classifier_report import sample_report
from tests.helpers.html_page import Page
from transxnet.metrics.embeddings import EmbeddingEvaluation
from transxnet.reports import render
from transxnet.reports.pretraining_report import task_page

pytest.importorskip("sklearn")


def evaluation(classes: int = 3, features: int = 8) -> EmbeddingEvaluation:
    dice = np.random.default_rng(0)
    names = [f"class <{i}>" for i in range(classes)]
    return EmbeddingEvaluation(
        dice.normal(size=(30, features)).astype(np.float32), names, dice.integers(0, classes, 30)
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample_report(evaluation()))


def test_tiles_are_the_metrics(page):
    shown, metrics = Page(page).text["dd"], evaluation().metrics()
    assert f"{metrics['knn_accuracy']:.1%}" in shown and f"{metrics['majority']:.1%} for always" in shown
    assert f"{metrics['effective_rank']:.3f}" in shown and "at most 8, for 8 features of 30 images" in shown
    assert "with labels, which the training did not use" in page


def test_classes_of_the_map_are_named_and_escaped(page):
    assert page.count("class &lt;") == 3 and "class <" not in page


def test_page_without_labels_has_no_accuracy():
    text = render(sample_report(evaluation(classes=1, features=1)))
    assert "class &lt;" not in text and "k-NN accuracy" not in text and "Map of the embeddings" in text


def test_many_classes_have_one_color():
    assert task_page(evaluation(classes=25)).content["legend"] == []
