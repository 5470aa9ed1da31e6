import math

import pytest

from transxnet.metrics.best_epoch import describe_saved_epoch, find_best_epoch, monitored_metric
from transxnet.training.detector import Detector
from transxnet.training.objectives import ClassObjective, MultiLabelObjective, RegressionObjective
from transxnet.training.segmenter import Segmenter


def history(*values: float | None) -> list[dict[str, float]]:
    return [
        {"epoch": i, "train_loss": 1.0, **({} if value is None else {"val_accuracy": value})}
        for i, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("values", "epoch"),
    [((0.5, 0.75, 0.7), 2), ((0.5, 0.75, 0.75), 2), ((None, 0.1, None), 2), ((math.nan, 0.1, 0.2), 3)],
)
def test_best_epoch_is_the_first_with_the_highest_metric(values, epoch):
    assert find_best_epoch(history(*values), "classes")["epoch"] == epoch


def test_no_validated_epoch():
    assert find_best_epoch(history(math.nan, math.nan), "classes") is None
    assert find_best_epoch(history(None, None), "classes") is None
    assert find_best_epoch([], "detect") is None


def test_saved_epoch_is_described_with_its_metric():
    rows = history(0.5, 0.75, 0.7)
    assert describe_saved_epoch(rows, "classes", "best") == "epoch 2 of 3, highest validation accuracy (75.0%)"
    assert describe_saved_epoch(rows, "classes", "last") == "last epoch"
    rows = [{"epoch": 1, "val_ap": math.nan}]
    assert describe_saved_epoch(rows, "detect", "best") == "last epoch, since no epoch has a validation AP"
    rows = [{"epoch": 1, "val_ap": 0.25}]
    assert describe_saved_epoch(rows, "detect", "best") == "epoch 1 of 1, highest validation AP (25.0%)"


@pytest.mark.parametrize(
    ("columns", "predicted"),
    [
        (ClassObjective.columns, "classes"),
        (MultiLabelObjective.columns, "multilabel"),
        (RegressionObjective.columns, "regression"),
        (Detector.columns, "detect"),
        (Segmenter.columns, "segment"),
    ],
)
def test_training_logs_the_metric_of_the_best_epoch(columns, predicted):
    assert monitored_metric(predicted) in columns


@pytest.mark.parametrize(("module", "task"), [(Detector, "detect"), (Segmenter, "segment")])
def test_training_saves_the_epoch_of_the_same_metric(module, task):
    assert module.monitor == monitored_metric(task)


def test_saved_epoch_of_a_regression_is_not_in_percent():
    text = describe_saved_epoch([{"epoch": 1, "val_r2": 0.25}], "regression", "best")
    assert text == "epoch 1 of 1, highest validation R2 (0.250)"
