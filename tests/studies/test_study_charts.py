import numpy as np

from transxnet.metrics.binary_curves import BinaryCurves
from transxnet.metrics.publication_metrics import ScoredImages
from transxnet.studies.study_charts import _precision_recall, _roc, arm_lines, learning_charts

CURVES = BinaryCurves(1, np.array([0.9, 0.8, 0.6, 0.4, 0.2], np.float32), np.array([True, False, True, False, False]))


def test_each_arm_has_its_own_color_and_dash():
    lines = arm_lines([f"arm {i}" for i in range(9)])
    assert len({(line.color, line.dash) for line in lines}) == 9


def test_roc_is_a_step_function_of_the_false_positive_rate():
    values = _roc(CURVES)
    assert (values[0], values[33], values[34], values[100]) == (0.5, 0.5, 1.0, 1.0)


def test_precision_is_the_highest_with_that_recall():
    values = _precision_recall(CURVES)
    assert values[0] == values[50] == 1.0
    np.testing.assert_allclose(values[51:], 2 / 3, rtol=1e-6)


def test_confusion_counts_every_image_of_each_seed(whole):
    counts = ScoredImages.concatenate(whole.arms[0].pooled).confusion
    assert counts.sum(1).tolist() == [2 * 8, 2 * 16]


def test_learning_curves_are_means_of_the_runs(whole):
    accuracy, loss = learning_charts(whole)
    assert (accuracy.title, loss.title) == ("Accuracy on validation images", "Training loss")
    assert [line.label for line in accuracy.legend] == ["test_resnet", "test_vit"]
