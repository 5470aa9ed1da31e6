"""The losses and epoch metrics of labels and values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel, AsymmetricLossSingleLabel, BinaryCrossEntropy
from torch import nn
from torchmetrics.functional.classification import multiclass_f1_score
from torchvision.ops import sigmoid_focal_loss

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.metrics.targets import ClassTargets, MultiLabelTargets, RegressionTargets
from transxnet.runs.task_configs import LOSSES, ClassifyConfig
from transxnet.training.objectives import (
    ClassObjective,
    MultiLabelObjective,
    RegressionObjective,
    create_objective,
    pixel_losses,
)

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


def test_class_weights_and_smoothing_are_those_of_pytorch():
    logits, target, weights = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2]), torch.tensor([0.5, 2.0, 1.0])
    loss = ClassObjective(3, class_weights=weights).loss(logits, target, 0.2)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target, weights, label_smoothing=0.2))
    torch.testing.assert_close(
        ClassObjective(3).loss(logits, target, 0.2), F.cross_entropy(logits, target, label_smoothing=0.2)
    )


def test_focal_loss_of_two_classes_equals_that_of_torchvision():
    logits, target = torch.randn(8), torch.randint(2, (8,))
    loss = ClassObjective(2, "focal").loss(torch.stack([torch.zeros(8), logits], 1), target, 0.0)
    torch.testing.assert_close(loss, sigmoid_focal_loss(logits, target.float(), alpha=-1, reduction="mean"))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_of_classes_equal_those_of_timm(smoothing):
    logits, target = torch.randn(6, 3), torch.tensor([0, 0, 0, 1, 2, 2])
    for name, loss in (
        ("bce", BinaryCrossEntropy(smoothing)),
        ("asymmetric", AsymmetricLossSingleLabel(eps=smoothing)),
    ):
        torch.testing.assert_close(ClassObjective(3, name).loss(logits, target, smoothing), loss(logits, target))


@pytest.mark.parametrize("name", LOSSES["classes"])
def test_losses_of_mixed_targets_are_linear_in_them(name):
    logits, objective = torch.randn(4, 3), ClassObjective(3, name, torch.ones(3))
    one, other = torch.tensor([0, 1, 2, 0]), torch.tensor([2, 1, 0, 1])
    mixed = 0.3 * F.one_hot(one, 3) + 0.7 * F.one_hot(other, 3)
    expected = 0.3 * objective.loss(logits, one, 0.1) + 0.7 * objective.loss(logits, other, 0.1)
    torch.testing.assert_close(objective.loss(logits, mixed, 0.1), expected)


@pytest.mark.parametrize("name", LOSSES["classes"])
def test_class_weight_two_counts_its_images_twice(name):
    logits, target = torch.randn(3, 3), torch.tensor([0, 1, 1])
    weighted = ClassObjective(3, name, torch.tensor([1.0, 2.0, 1.0])).loss(logits, target, 0.0)
    twice = [0, 1, 1, 2, 2]
    torch.testing.assert_close(weighted, ClassObjective(3, name).loss(logits[twice], target[twice], 0.0))


CASES = {
    "cross_entropy": (lambda: ClassObjective(3, class_weights=torch.tensor([1.0, 2.0, 3.0])), torch.tensor([0, 2, 1])),
    **{
        f"{name} of classes": (lambda name=name: ClassObjective(3, name), torch.tensor([0, 2, 1]))
        for name in ("focal", "bce", "asymmetric")
    },
    **{name: (lambda name=name: MultiLabelObjective(LABELS, name), torch.eye(3)) for name in ("bce", "asymmetric")},
    "mse": (lambda: RegressionObjective(VALUES, "mse"), torch.tensor([90.0, 120.0, 150.0])),
}


@pytest.mark.parametrize("name", CASES)
def test_image_of_weight_zero_is_ignored(name):
    (create, target), logits = CASES[name], torch.randn(3, 3, requires_grad=True)
    objective = create()
    (gradient,) = torch.autograd.grad(objective.loss(logits, target, 0.1, torch.tensor([1.0, 0.0, 1.0])), logits)
    (expected,) = torch.autograd.grad(objective.loss(logits[[0, 2]], target[[0, 2]], 0.1), logits)
    torch.testing.assert_close(gradient, expected)
    assert objective.loss(logits, target, 0.1, torch.zeros(3)).item() == 0


@pytest.mark.parametrize("name", CASES)
def test_weight_two_counts_an_image_twice(name):
    (create, target), logits = CASES[name], torch.randn(3, 3)
    twice = [0, 1, 1, 2]
    expected = create().loss(logits[twice], target[twice], 0.1)
    torch.testing.assert_close(create().loss(logits, target, 0.1, torch.tensor([1.0, 2.0, 1.0])), expected)


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
    assert figures == evaluation.fitted().metrics()
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


def pixels() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(2, (2, 8, 8))
    labels[:, :2] = IGNORE
    return torch.randn(2, 3, 8, 8, requires_grad=True), labels


def test_dice_loss_is_that_of_a_confusion_matrix():
    _, labels = pixels()
    predicted = torch.randint(3, (2, 8, 8))
    (loss,) = pixel_losses("dice", 1e4 * F.one_hot(predicted, 3).movedim(-1, 1).float(), labels).values()
    kept = labels != IGNORE
    f1 = multiclass_f1_score(predicted[kept], labels[kept], 3, average=None)
    assert loss.item() == pytest.approx(1 - f1[:2].mean().item(), abs=1e-6)  # class 2 does not occur


def test_focal_dice_is_the_sum_of_both():
    logits, labels = pixels()
    losses = pixel_losses("focal_dice", logits, labels)
    torch.testing.assert_close(losses["dice"], pixel_losses("dice", logits, labels)["dice"])
    kept = labels != IGNORE
    expected = ClassObjective(3, "focal").loss(logits.movedim(1, -1)[kept], labels[kept], 0.0)
    torch.testing.assert_close(losses["focal"], expected)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal_dice"])
def test_ignored_pixels_have_no_gradient(name):
    logits, labels = pixels()
    sum(pixel_losses(name, logits, labels).values()).backward()
    assert (logits.grad[:, :, :2] == 0).all() and (logits.grad[:, :, 2:] != 0).all()
    unlabeled = sum(pixel_losses(name, logits, torch.full_like(labels, IGNORE)).values())
    unlabeled.backward()
    assert unlabeled.item() == 0 and logits.grad.isfinite().all()


def test_dice_loss_finds_a_rare_class():
    labels = torch.zeros(1, 20, 20, dtype=torch.int64)
    labels[0, :2, :10] = 1  # a twentieth of the pixels
    level = labels[:, None] * 1.5 + torch.randn(1, 1, 20, 20)
    found = {}
    for name in ("cross_entropy", "dice", "focal_dice"):
        model = nn.Conv2d(1, 2, 1)
        optimizer = torch.optim.Adam(model.parameters(), 0.1)
        for _ in range(200):
            optimizer.zero_grad()
            sum(pixel_losses(name, model(level), labels).values()).backward()
            optimizer.step()
        found[name] = (model(level).argmax(1)[labels == 1] == 1).float().mean().item()
    assert found["dice"] > found["cross_entropy"] < found["focal_dice"]
