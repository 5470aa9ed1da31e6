import pytest
import torch
import torch.nn.functional as F
from torch import nn

from transxnet.metrics.best_epoch import monitored_metric
from transxnet.metrics.classification import ClassificationEvaluation
from transxnet.metrics.targets import ClassTargets, MultiLabelTargets, RegressionTargets
from transxnet.runs.task_configs import LOSSES, ClassifyConfig
from transxnet.training.classifier import Classifier
from transxnet.training.objectives import create_objective


def make_classifier(classes: int = 7, **options) -> Classifier:
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, classes)), classes, ClassifyConfig("photos", **options))


def batch(count: int, classes: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(count, 3, 2, 2), torch.arange(count) % classes, torch.arange(count)


def test_loss_is_cross_entropy_with_label_smoothing():
    classifier, (images, target, order) = make_classifier(smoothing=0.2), batch(5)
    logits = classifier.model(images)
    right = -logits.log_softmax(1).gather(1, target[:, None]).mean()
    uniform = -logits.log_softmax(1).mean()
    (loss,) = classifier.losses((images, target, order)).values()
    torch.testing.assert_close(loss, 0.8 * right + 0.2 * uniform, atol=1e-6, rtol=0)


@pytest.mark.parametrize("targets", [ClassTargets(), MultiLabelTargets([0.5] * 7), RegressionTargets(0.0, 1.0)])
def test_classifier_monitors_the_metric_of_its_targets(targets):
    config = ClassifyConfig("photos", targets=targets.kind, loss=LOSSES[targets.kind][0])
    classifier = Classifier(nn.Linear(1, 7), 7, config, create_objective(targets, 7, config))
    assert classifier.monitor == monitored_metric(targets.kind)
    assert classifier.monitor in classifier.columns


def test_image_of_weight_zero_has_no_effect_on_gradients():
    weights = torch.tensor([1.0, 0.0, 0.5, 2.0])
    classifier, (images, target, order) = make_classifier(), batch(4)
    classifier.image_weights = weights
    for image, label in zip(torch.randn(2, 3, 2, 2), (0, 5), strict=True):
        images[1], target[1] = image, label
        classifier.zero_grad()
        classifier.losses((images, target, order))["loss"].backward()
        gradient = classifier.model[1].weight.grad.clone()
        kept = order[weights > 0]
        classifier.zero_grad()
        classifier.losses((images[kept], target[kept], kept))["loss"].backward()
        torch.testing.assert_close(classifier.model[1].weight.grad, gradient)


def test_mixup_smooths_labels_once():
    classifier, (images, target, order) = make_classifier(smoothing=0.2, mixup=0.3), batch(4)
    classifier.mixup = lambda images, target: (images, F.one_hot(target, 7).float())
    (loss,) = classifier.losses((images, target, order)).values()
    torch.testing.assert_close(loss, F.cross_entropy(classifier.model(images), target), atol=1e-6, rtol=0)


EPOCH_METRICS = ("accuracy", "balanced_accuracy", "f1", "top5_accuracy")


@pytest.mark.parametrize("classes", [5, 7])
def test_validation_metrics_are_those_of_all_batches(classes):
    classifier = make_classifier(classes, ema_decay=0.0)
    classifier.log_dict = lambda values, sync_dist: None
    logits, targets = [], []
    for count in (4, 3):
        images, target, order = batch(count, classes)
        classifier.validation_step((images, target, order), 0)
        logits.append(classifier.model(images))
        targets.append(target)
    logits, targets = torch.cat(logits), torch.cat(targets)
    classifier.on_validation_epoch_end()
    metrics = classifier.validation_metrics
    assert metrics.pop("val_loss") == pytest.approx(F.cross_entropy(logits, targets).item(), abs=1e-6)
    names = [str(i) for i in range(classes)]
    probabilities = logits.detach().softmax(1).numpy()
    expected = ClassificationEvaluation(names, [""] * 7, targets.numpy(), probabilities).metrics()
    assert metrics == {f"val_{name}": expected[name] for name in EPOCH_METRICS if name in expected}  # exactly
    assert metrics["val_accuracy"] == int((logits.argmax(1) == targets).sum()) / 7
    if classes > 5:
        assert metrics["val_top5_accuracy"] == int((logits.topk(5).indices == targets[:, None]).sum()) / 7
    assert classifier.objective.counts.compute().sum() == 0  # the next epoch starts from zero
