"""What a classifier is trained for, by the kind of its targets: the loss and the metrics of each epoch."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassStatScores
from torchmetrics.utilities import dim_zero_cat
from torchvision.ops import sigmoid_focal_loss

from transxnet.metrics.classification import TOP, classification_metrics
from transxnet.metrics.targets import RegressionTargets, Targets
from transxnet.runs.task_configs import ClassifyConfig


class Objective(nn.Module):
    """The loss of a kind of targets, and the metrics of a validation.

    Attributes:
        columns: metrics of an epoch, each with its short name.
    """

    columns: Mapping[str, str]

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Compute the mean loss of a batch of logits (B, C)."""

    @abstractmethod
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a validation batch."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return loss and metrics of the validation, and start the next one; a collective call."""


class ClassObjective(Objective):
    """Cross-entropy, and the metrics of classes from counts."""

    columns = MappingProxyType(
        {
            "val_loss": "loss",
            "val_accuracy": "accuracy",
            "val_balanced_accuracy": "balanced",
            "val_f1": "F1",
            "val_top5_accuracy": "top-5",
        }
    )

    def __init__(self, num_classes: int):
        super().__init__()
        self.counts = MulticlassStatScores(num_classes, average=None)
        self.top_counts = None
        if num_classes > TOP:
            self.top_counts = MulticlassStatScores(num_classes, average="micro", top_k=TOP)
        # Lightning's own mean rounds when processes have unequal numbers of images. "disable" ignores weights.
        self.mean_loss = MeanMetric(nan_strategy="disable")

    def loss(self, logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Compute the cross-entropy; targets are class indices, or probabilities (B, C) after mixup."""
        return F.cross_entropy(logits, target, label_smoothing=smoothing)

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a validation batch."""
        probabilities = logits.softmax(dim=1)  # as in the final evaluation, where rounding can make classes equal
        self.counts.update(probabilities.argmax(dim=1), target)
        if self.top_counts is not None:
            self.top_counts.update(probabilities, target)
        self.mean_loss.update(F.cross_entropy(logits, target, reduction="none"))  # not weighted here

    def compute(self) -> dict[str, float]:
        """Return loss and metrics of the validation."""
        top = None if self.top_counts is None else self.top_counts.compute().cpu().numpy()
        figures = classification_metrics(self.counts.compute().cpu().numpy(), top)
        loss = {"loss": float(self.mean_loss.compute())}
        for metric in (self.counts, self.top_counts, self.mean_loss):
            if metric is not None:
                metric.reset()
        return loss | figures


class _Outputs(Metric):
    """Gathers the logits and targets of all images and processes."""

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch."""
        self.logits.append(logits)
        self.labels.append(labels)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return all logits and labels."""
        return dim_zero_cat(self.logits), dim_zero_cat(self.labels)


class _EvaluatedObjective(Objective):
    """An objective whose metrics are those of the final evaluation, from the outputs of all validation images.

    Args:
        targets: targets of the classifier; an epoch is evaluated with those that fit it best.
    """

    def __init__(self, targets: Targets):
        super().__init__()
        self.targets, self.outputs = targets, _Outputs()

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a validation batch."""
        self.outputs.update(logits, target)

    def compute(self) -> dict[str, float]:
        """Return loss and metrics of the validation."""
        logits, labels = self.outputs.compute()
        loss = {"loss": float(self.loss(logits, labels, smoothing=0.0))}
        self.outputs.reset()
        outputs = self.targets.activate(logits).cpu().numpy()
        _, evaluation = self.targets.fit(
            self.targets.evaluate([""] * logits.shape[1], [], labels.cpu().numpy(), outputs)
        )
        return loss | evaluation.all_metrics()


class MultiLabelObjective(_EvaluatedObjective):
    """A loss of independent labels; unknown ones (NaN) have no loss.

    Args:
        targets: targets of the classifier.
        name: "bce"; "focal" (Lin et al. 2017); or "asymmetric" (Ridnik et al. 2021).
    """

    columns = MappingProxyType(
        {
            "val_loss": "loss",
            "val_macro_ap": "mean AP",
            "val_macro_auroc": "mean AUROC",
            "val_f1": "F1",
            "val_exact_match": "all labels",
        }
    )

    def __init__(self, targets: Targets, name: str):
        super().__init__(targets)
        self._sum = _MULTILABEL_LOSSES[name]

    def loss(self, logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Compute the mean over the known labels."""
        known = ~target.isnan()
        smoothed = target[known] * (1 - smoothing) + smoothing / 2
        return self._sum(logits[known], smoothed) / known.sum().clamp(min=1)


def _asymmetric(logits: Tensor, target: Tensor) -> Tensor:
    # As one image: timm divides by the number of images, in some versions.
    return AsymmetricLossMultiLabel()(logits[None], target[None])


_MULTILABEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": lambda logits, target: F.binary_cross_entropy_with_logits(logits, target, reduction="sum"),
    "focal": lambda logits, target: sigmoid_focal_loss(logits, target, reduction="sum"),
    "asymmetric": _asymmetric,
}


class RegressionObjective(_EvaluatedObjective):
    """A loss of values that are standardized by the training images.

    Args:
        targets: targets of the model.
        name: "smooth_l1" or "mse".
    """

    columns = MappingProxyType(
        {
            "val_loss": "loss",
            "val_mae": "MAE",
            "val_rmse": "RMSE",
            "val_r2": "R2",
            "val_spearman": "Spearman",
        }
    )
    targets: RegressionTargets

    def __init__(self, targets: RegressionTargets, name: str):
        super().__init__(targets)
        self._mean = _REGRESSION_LOSSES[name]

    def loss(self, logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
        """Compute the mean loss; values are not smoothed."""
        return self._mean(logits[:, 0], (target - self.targets.mean) / self.targets.std)


_REGRESSION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"smooth_l1": F.smooth_l1_loss, "mse": F.mse_loss}


def create_objective(targets: Targets, num_classes: int, config: ClassifyConfig) -> Objective:
    """Create the objective for the targets with the loss of the configuration."""
    if config.targets == "multilabel":
        return MultiLabelObjective(targets, str(config.loss))
    if config.targets == "regression":
        assert isinstance(targets, RegressionTargets)
        return RegressionObjective(targets, str(config.loss))
    return ClassObjective(num_classes)
