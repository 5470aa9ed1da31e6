import numpy as np
import pytest
from sklearn import metrics as sk

from transxnet.metrics.binary_curves import BinaryCurves, choose_positive
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.utils.errors import UserError, command_line


def binary(scores: list[float], labels: list[int]) -> ClassificationEvaluation:
    second = np.array(scores, np.float32)
    return ClassificationEvaluation(
        ["good", "defective"], [f"{i}.png" for i in range(len(labels))], np.array(labels), np.c_[1 - second, second]
    )


def test_thresholds_of_six_scores_computed_by_hand():
    curves = binary([0.1, 0.2, 0.355, 0.6, 0.705, 0.9], [0, 0, 1, 0, 1, 1]).binary_curves()
    assert curves.positive == 1
    for wanted, threshold, precision, recall in [(0.3, 0.7, 1, 2 / 3), (0.6, 0.7, 1, 2 / 3), (0.7, 0.35, 3 / 4, 1)]:
        point = curves.at_recall(wanted)
        assert (point.threshold, point.precision, point.recall) == pytest.approx((threshold, precision, recall))
    for wanted, threshold, precision, recall in [(0.5, 0.35, 3 / 4, 1), (0.8, 0.7, 1, 2 / 3), (1.0, 0.7, 1, 2 / 3)]:
        point = curves.at_precision(wanted)
        assert (point.threshold, point.precision, point.recall) == pytest.approx((threshold, precision, recall))
    # Of the 9 pairs of a positive and a negative, only (0.355, 0.6) is in the wrong order.
    assert curves.auroc == pytest.approx(8 / 9)
    assert curves.average_precision == pytest.approx((1 + 1 + 3 / 4) / 3)


def test_precision_that_no_threshold_reaches():
    curves = binary([0.9, 0.8, 0.1, 0.2], [0, 1, 0, 0]).binary_curves()
    assert curves.at_precision(0.8) is None
    assert curves.at_precision(0.5).recall == 1


def test_thresholds_are_shortened_without_changing_the_predictions():
    curves = binary([0.123456, 0.7777, 0.81234, 0.3], [0, 1, 1, 0]).binary_curves()
    assert curves.at_recall(1).threshold == 0.77
    close = binary([0.1, 0.77771, 0.77774, 0.3], [0, 0, 1, 0]).binary_curves()
    assert close.at_recall(1).threshold == 0.77774
    assert (close.scores >= close.at_recall(1).threshold).tolist() == [False, False, True, False]


def test_curves_match_scikit_learn():
    random = np.random.default_rng(0)
    e = binary(random.random(300).tolist(), random.integers(0, 2, 300).tolist())
    curves = e.binary_curves()
    positive, scores = e.labels == curves.positive, e.probabilities[:, curves.positive]
    assert curves.auroc == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-6)
    assert curves.average_precision == pytest.approx(sk.average_precision_score(positive, scores), abs=1e-6)
    precision, recall, thresholds = sk.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(curves.precision_recall(), (precision[:-1], recall[:-1], thresholds), atol=1e-6)


def test_positive_class_is_the_less_frequent_one():
    assert binary([0.5] * 3, [0, 1, 1]).binary_curves().positive == 0
    assert binary([0.5] * 4, [0, 0, 1, 1]).binary_curves().positive == 1
    assert binary([0.5] * 2, [1, 1]).binary_curves() is None


def test_positive_class_is_the_given_or_the_less_frequent_one():
    labels = np.array([0, 0, 1])
    assert choose_positive(["ill", "well"], labels, None) == "well"
    assert choose_positive(["ill", "well"], labels, "ill") == "ill"
    assert choose_positive(["ill", "well"], None, None) is None
    assert choose_positive(["a", "b", "c"], labels, None) is None


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (["a", "b", "c"], r"--positive is for a classifier of two classes, got 3 classes\. Remove --positive\."),
        ([], r"--positive is for a classifier of two classes\. Remove --positive\."),
        (["a", "b"], "positive must be 'a' or 'b', got 'ill'"),
    ],
)
def test_unknown_positive_class_is_refused(class_names, message):
    with command_line(), pytest.raises(UserError, match=message):
        choose_positive(class_names, None, "ill")


def test_youden_threshold_has_the_highest_sum_of_both_rates():
    random = np.random.default_rng(0)
    labels = random.random(200) < 0.3
    scores = (random.random(200) * 0.6 + 0.4 * labels * random.random(200)).astype(np.float32)
    curves = BinaryCurves(1, scores, labels)

    def both_rates(threshold: float) -> float:
        return (scores[labels] >= threshold).mean() + (scores[~labels] < threshold).mean()

    found = curves.youden_threshold()
    assert both_rates(found) == pytest.approx(max(map(both_rates, scores)))
    assert np.abs(scores - found).min() > 1e-5


def test_youden_threshold_lies_between_two_probabilities():
    labels, scores = np.array([0, 0, 1, 1]) == 1, np.array([0.1, 0.2, 0.6, 0.7], np.float32)
    assert BinaryCurves(1, scores, labels).youden_threshold() == pytest.approx(0.4)
    assert BinaryCurves(1, scores, np.ones(4, bool)).youden_threshold() == pytest.approx(0.05)
