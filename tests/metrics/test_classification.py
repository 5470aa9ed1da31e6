import csv

import numpy as np
import pytest
from sklearn import metrics as sk

from transxnet.metrics.classification import Evaluation, write_evaluation


def evaluation(images: int, classes: int, seed: int = 0, labels=None, weights=None) -> Evaluation:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(classes), images).astype(np.float32)
    labels = generator.integers(0, classes, images) if labels is None else np.array(labels)
    names = [f"class {i}" for i in range(classes)]
    return Evaluation(names, [f"{i}.png" for i in range(images)], labels, probabilities, weights)


@pytest.mark.parametrize(("images", "classes"), [(200, 4), (500, 12), (7, 2), (1, 3)])
def test_the_figures_are_those_of_scikit_learn(images, classes):
    e = evaluation(images, classes)
    figures, present = e.metrics(), np.unique(e.labels)
    assert figures["accuracy"] == pytest.approx(sk.accuracy_score(e.labels, e.predictions), abs=1e-6)
    recall = sk.recall_score(e.labels, e.predictions, labels=present, average="macro", zero_division=0)
    assert figures["balanced_accuracy"] == pytest.approx(recall, abs=1e-6)
    f1 = sk.f1_score(e.labels, e.predictions, labels=present, average="macro", zero_division=0)
    assert figures["f1"] == pytest.approx(f1, abs=1e-6)
    assert np.array_equal(e.confusion, sk.confusion_matrix(e.labels, e.predictions, labels=range(classes)))
    assert figures["majority"] == pytest.approx(np.bincount(e.labels).max() / images, abs=1e-12)


def test_precision_recall_and_f1_of_each_class_are_those_of_scikit_learn():
    e = evaluation(300, 6)
    expected = sk.precision_recall_fscore_support(e.labels, e.predictions, labels=range(6), zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(e.per_class()[name], values, atol=1e-6)


def test_classes_that_never_occur_do_not_count():
    e = evaluation(100, 5, labels=np.arange(100) % 3)
    expected = sk.recall_score(e.labels, e.predictions, labels=[0, 1, 2], average="macro")
    assert e.metrics()["balanced_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert e.per_class()["support"].tolist() == [34, 33, 33, 0, 0]


def test_top_5_is_said_only_where_there_are_more_classes():
    assert "top5_accuracy" not in evaluation(50, 5).metrics()
    e = evaluation(200, 12)
    expected = sk.top_k_accuracy_score(e.labels, e.probabilities, k=5, labels=range(12))
    assert e.metrics()["top5_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_weights_give_a_weighted_accuracy():
    weights = np.random.default_rng(1).random(80)
    e = evaluation(80, 3, weights=weights)
    expected = sk.accuracy_score(e.labels, e.predictions, sample_weight=weights)
    assert e.metrics()["weighted_accuracy"] == pytest.approx(expected, abs=1e-9)
    assert "weighted_accuracy" not in evaluation(80, 3).metrics()


def test_the_worst_mistakes_are_the_most_certain_wrong_answers():
    e = evaluation(100, 4)
    worst = e.worst_mistakes(10)
    certainty = e.probabilities.max(axis=1)
    wrong = e.predictions != e.labels
    assert wrong[worst].all()
    assert (np.diff(certainty[worst]) <= 0).all()
    assert certainty[worst[-1]] >= np.sort(certainty[wrong])[-10]


def test_the_csv_holds_what_was_said_of_each_image(tmp_path):
    e = evaluation(5, 3)
    e = Evaluation(e.class_names, ['a "b", c\nd.png', *e.names[1:]], e.labels, e.probabilities)
    write_evaluation(tmp_path / "predictions.csv", e)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == e.names
    assert [row["predicted"] for row in rows] == [f"class {i}" for i in e.predictions]
    assert [row["label"] for row in rows] == [f"class {i}" for i in e.labels]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], e.probabilities.max(axis=1), atol=1e-6)


def test_the_surest_right_answers_are_right_and_in_order():
    e = evaluation(60, 3)
    surest = e.surest_right(5)
    assert len(surest) == 5
    assert (e.predictions[surest] == e.labels[surest]).all()
    sure = e.probabilities.max(axis=1)
    assert sure[surest].tolist() == sorted(sure[e.predictions == e.labels], reverse=True)[:5]
