"""The losses and epoch metrics of labels and values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torchvision.ops import sigmoid_focal_loss

from transxnet.metrics.targets import ClassTargets, MultiLabelTargets, RegressionTargets
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.objectives import MultiLabelObjective, RegressionObjective, create_objective

LABELS = MultiLabelTargets([0.5] * 3)
VALUES = RegressionTargets(100.0, 20.0)
TRUE = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize("name", ["bce", "focal", "asymmetric"])
def test_losses_equal_those_of_their_packages(name):
    logits = torch.randn(2, 3)
    expected = {
        "bce": lambda: F.binary_cross_entropy_with_logits(logits, TRUE),
        "focal": lambda: sigmoid_focal_loss(logits, TRUE, reduction="mean"),
        "asymmetric": lambda: AsymmetricLossMultiLabel(reduction="mean")(logits, TRUE),
    }[name]()
    torch.testing.assert_close(MultiLabelObjective(LABELS, name).loss(logits, TRUE, 0.0), expected)


@pytest.mark.parametrize("name", ["bce", "focal", "asymmetric"])
def test_unknown_label_has_no_loss_and_no_gradient(name):
    logits = torch.randn(2, 3, requires_grad=True)
    target = TRUE.clone()
    target[0, 1] = target[1] = torch.nan
    loss = MultiLabelObjective(LABELS, name).loss(logits, target, 0.1)
    loss.backward()
    known = ~target.isnan()
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()
    alone = MultiLabelObjective(LABELS, name).loss(logits[0][None, [0, 2]], target[0][None, [0, 2]], 0.1)
    torch.testing.assert_close(loss, alone)


def test_batch_of_unknown_labels_has_loss_zero():
    logits = torch.randn(2, 3, requires_grad=True)
    loss = MultiLabelObjective(LABELS, "bce").loss(logits, torch.full((2, 3), torch.nan), 0.0)
    loss.backward()
    assert loss.item() == 0 and (logits.grad == 0).all()


def test_smoothing_moves_labels_towards_one_half():
    logits = torch.randn(2, 3)
    loss = MultiLabelObjective(LABELS, "bce").loss(logits, TRUE, 0.2)
    torch.testing.assert_close(loss, F.binary_cross_entropy_with_logits(logits, TRUE * 0.8 + 0.1))


@pytest.mark.parametrize(("name", "function"), [("smooth_l1", F.smooth_l1_loss), ("mse", F.mse_loss)])
def test_regression_loss_is_of_standardized_values(name, function):
    loss = RegressionObjective(VALUES, name).loss(torch.tensor([[0.5], [1.0]]), torch.tensor([110.0, 160.0]), 0.1)
    torch.testing.assert_close(loss, function(torch.tensor([0.5, 1.0]), torch.tensor([0.5, 3.0])))


def test_epoch_metrics_are_those_of_the_evaluation():
    objective, logits = MultiLabelObjective(LABELS, "bce"), torch.randn(7, 3)
    target = (torch.rand(7, 3) < 0.5).float()
    target[0, 0] = torch.nan
    for part in (slice(0, 4), slice(4, 7)):
        objective.update(logits[part], target[part])
    figures = objective.compute()
    assert figures.pop("loss") == pytest.approx(objective.loss(logits, target, 0.0).item())
    evaluation = LABELS.evaluate(list("abc"), [], target.numpy(), logits.sigmoid().numpy())
    assert figures == evaluation.with_best_thresholds().metrics()
    assert objective.outputs.logits == []  # the next epoch starts empty


def test_values_are_evaluated_in_their_unit():
    objective = RegressionObjective(VALUES, "smooth_l1")
    objective.update(torch.tensor([[0.0], [1.0]]), torch.tensor([101.0, 117.0]))
    assert objective.compute()["mae"] == pytest.approx(2.0)


@pytest.mark.parametrize("targets", [ClassTargets(), LABELS, VALUES], ids=lambda targets: targets.kind)
def test_columns_are_metrics_of_the_objective(targets):
    count = 1 if targets.kind == "regression" else 3
    loss = {"classes": "cross_entropy", "multilabel": "focal", "regression": "mse"}[targets.kind]
    objective = create_objective(targets, count, ClassifyConfig("data", targets=targets.kind, loss=loss))
    target = {"classes": torch.tensor([0, 2]), "multilabel": TRUE, "regression": torch.tensor([90.0, 130.0])}
    objective.update(torch.randn(2, count), target[targets.kind])
    figures = objective.compute()
    expected = {name.removeprefix("val_") for name in objective.columns} - {"top5_accuracy"}
    assert expected <= set(figures)
    assert all(np.isfinite(figures[name]) for name in expected)
