"""Losses and metrics of each epoch of a classifier, by the kind of its targets; losses of segmenters."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassStatScores
from torchmetrics.utilities import dim_zero_cat
from torchvision.ops import sigmoid_focal_loss

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.metrics.classification import TOP
from transxnet.metrics.count_metrics import classification_metrics
from transxnet.metrics.targets import RegressionTargets, Targets
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.utils.errors import UserError

FOCUS = 2.0
"""Exponent gamma of the focal loss."""
POSITIVE_FOCUS, NEGATIVE_FOCUS = 1.0, 4.0
"""Exponents of the asymmetric loss, for the class of the image and for the others."""


class Objective(nn.Module):
    """The loss of a kind of targets, and the metrics of a validation.

    Attributes:
        columns: metrics of an epoch, each with its short name.
    """

    columns: Mapping[str, str]

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Compute the mean loss of a batch.

        Args:
            logits: (B, C).
            target: labels of the images, or probabilities (B, C) after mixup.
            smoothing: label smoothing.
            weights: (B,) weights of the images; by default all are equal.
        """

    @abstractmethod
    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a validation batch."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Return loss and metrics of the validation, and start the next one; a collective call."""


class ClassObjective(Objective):
    """A loss of classes, and the metrics of classes from counts.

    Args:
        num_classes: C.
        name: "cross_entropy"; "focal" (Lin et al. 2017, with softmax and without alpha, which is a class weight);
            "bce", the mean over the classes, each against all others (Wightman et al. 2021); or "asymmetric" (Ridnik et
            al. 2021, for one class per image).
        class_weights: (C,) factors of the classes' losses; by default all are equal. The validation loss is the plain
            cross-entropy.
    """

    class_weights: Tensor | None

    columns = MappingProxyType(
        {
            "val_loss": "loss",
            "val_accuracy": "accuracy",
            "val_balanced_accuracy": "balanced",
            "val_f1": "F1",
            "val_top5_accuracy": "top-5",
        }
    )

    def __init__(self, num_classes: int, name: str = "cross_entropy", class_weights: Tensor | None = None):
        super().__init__()
        self._each = _CLASS_LOSSES[name]
        self.register_buffer("class_weights", class_weights)  # stored in checkpoints, since its file may change
        self.counts = MulticlassStatScores(num_classes, average=None)
        self.top_counts = None
        if num_classes > TOP:
            self.top_counts = MulticlassStatScores(num_classes, average="micro", top_k=TOP)
        # Lightning's own mean rounds when processes have unequal numbers of images. "disable" ignores weights.
        self.mean_loss = MeanMetric(nan_strategy="disable")

    def loss(self, logits: Tensor, target: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Compute the mean, by the weights of images and classes."""
        share = target if target.ndim == 2 else F.one_hot(target, logits.shape[1]).to(logits.dtype)
        losses = self._each(logits, share, smoothing, self.class_weights)
        totals = torch.ones_like(losses) if self.class_weights is None else share @ self.class_weights
        return _weighted_mean(losses, totals, weights)

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


def _smoothed(target: Tensor, smoothing: float) -> Tensor:
    return target * (1 - smoothing) + smoothing / target.shape[1]


def _cross_entropy(logits: Tensor, target: Tensor, smoothing: float, class_weights: Tensor | None) -> Tensor:
    return F.cross_entropy(logits, _smoothed(target, smoothing), class_weights, reduction="none")


def _focal(logits: Tensor, target: Tensor, smoothing: float, class_weights: Tensor | None) -> Tensor:
    log_probabilities = logits.log_softmax(dim=1)
    losses = -_smoothed(target, smoothing) * (1 - log_probabilities.exp()) ** FOCUS * log_probabilities
    return (losses if class_weights is None else losses * class_weights).sum(dim=1)


def _binary(logits: Tensor, target: Tensor, smoothing: float, class_weights: Tensor | None) -> Tensor:
    losses = F.binary_cross_entropy_with_logits(logits, _smoothed(target, smoothing), reduction="none").mean(dim=1)
    return losses if class_weights is None else losses * (target @ class_weights)  # the weight of the image's class


def _asymmetric_classes(logits: Tensor, target: Tensor, smoothing: float, class_weights: Tensor | None) -> Tensor:
    # timm's own takes no mixed targets and has a smoothing of its own.
    log_probabilities, off = logits.log_softmax(dim=1), smoothing / logits.shape[1]
    probabilities = log_probabilities.exp()
    positive = target * (1 - smoothing + off) * (1 - probabilities) ** POSITIVE_FOCUS
    losses = -(positive + (1 - target) * off * probabilities**NEGATIVE_FOCUS) * log_probabilities
    return (losses if class_weights is None else losses * class_weights).sum(dim=1)


_CLASS_LOSSES: dict[str, Callable[[Tensor, Tensor, float, Tensor | None], Tensor]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "bce": _binary,
    "asymmetric": _asymmetric_classes,
}
"""Losses (B,) of logits (B, C), probabilities (B, C), label smoothing and class weights (C,)."""


def _weighted_mean(losses: Tensor, totals: Tensor, weights: Tensor | None) -> Tensor:
    """Return the sum of losses (B,) over that of their totals (B,), both weighted; 0 if no image counts."""
    if weights is not None:
        losses, totals = losses * weights, totals * weights
    total = totals.sum()
    return losses.sum() / torch.where(total > 0, total, 1)


class GatheredOutputs(Metric):
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
        self.targets, self.outputs = targets, GatheredOutputs()

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
        self._each = _MULTILABEL_LOSSES[name]

    def loss(self, logits: Tensor, target: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Compute the mean over the known labels."""
        known = ~target.isnan()
        smoothed = target.nan_to_num(0.5) * (1 - smoothing) + smoothing / 2
        losses = torch.where(known, self._each(logits, smoothed), 0)
        return _weighted_mean(losses.sum(dim=1), known.sum(dim=1), weights)


# timm sums over the labels of an image, and has no other reduction in its oldest supported version.
_asymmetric = torch.vmap(torch.vmap(lambda x, y: AsymmetricLossMultiLabel()(x[None, None], y[None, None])))

_MULTILABEL_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bce": partial(F.binary_cross_entropy_with_logits, reduction="none"),
    "focal": sigmoid_focal_loss,
    "asymmetric": _asymmetric,
}
"""Losses (B, C) of logits and labels."""


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
        self._each = _REGRESSION_LOSSES[name]

    def loss(self, logits: Tensor, target: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Compute the mean loss; values are not smoothed."""
        losses = self._each(logits[:, 0], (target - self.targets.mean) / self.targets.std)
        return _weighted_mean(losses, torch.ones_like(losses), weights)


_REGRESSION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smooth_l1": partial(F.smooth_l1_loss, reduction="none"),
    "mse": partial(F.mse_loss, reduction="none"),
}
"""Losses (B,) of values (B,)."""


class OwnLoss(Objective):
    """A loss of the caller with the metrics of another objective.

    Args:
        objective: computes the metrics and the validation loss.
        module: called with logits (B, C) and targets; returns the mean loss, or the losses (B,) of the images, which
            are then weighted.
    """

    def __init__(self, objective: Objective, module: nn.Module):
        super().__init__()
        self.objective, self.module = objective, module
        self.columns = objective.columns

    def loss(self, logits: Tensor, target: Tensor, smoothing: float, weights: Tensor | None = None) -> Tensor:
        """Compute the mean loss; only the module smooths labels."""
        losses = self.module(logits, target)
        if not isinstance(losses, Tensor) or losses.shape not in ((), (len(logits),)):
            got = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
            raise UserError(
                f"the loss must return a tensor () or ({len(logits)},), one value for each image, got {got}."
            )
        return _weighted_mean(losses, torch.ones_like(losses), weights) if losses.ndim else losses

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a validation batch."""
        self.objective.update(logits, target)

    def compute(self) -> dict[str, float]:
        """Return loss and metrics of the validation."""
        return self.objective.compute()


def pixel_losses(name: str, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Compute the losses of a segmenter, by name; training minimizes their sum.

    Args:
        name: "cross_entropy", averaged over all pixels, of which ignored ones count as zero, as in
            :class:`~transxnet.heads.SemanticFPN`; "dice"; or "focal_dice".
        logits: (B, K, H, W).
        labels: int64 (B, H, W), 0 to K - 1 or ``IGNORE``.
    """
    if name == "cross_entropy":
        losses = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum")
        return {"cross_entropy": losses / labels.numel()}
    labeled = labels != IGNORE
    target = F.one_hot(labels[labeled], logits.shape[1]).to(logits.dtype)  # (labeled pixels, K)
    own = logits.movedim(1, -1)[labeled]
    dice = {"dice": _dice(own, target)}
    if name == "dice":
        return dice
    return {"focal": _focal(own, target, 0.0, None).sum() / max(1, len(own)), **dice}


def _dice(logits: Tensor, target: Tensor) -> Tensor:
    """Compute 1 - Dice coefficient of all pixels of the batch together, averaged over the classes that occur in it.

    Source:
        Milletari et al., "V-Net", 3DV 2016, without squares.
    """
    probabilities = logits.softmax(dim=1)
    present = target.sum(dim=0) > 0
    coefficients = 2 * (probabilities * target).sum(dim=0) / (probabilities + target).sum(dim=0).clamp(min=1e-7)
    return ((1 - coefficients) * present).sum() / present.sum().clamp(min=1)


def create_objective(
    targets: Targets, num_classes: int, config: ClassifyConfig, class_weights: Tensor | None = None
) -> Objective:
    """Create the objective for the targets with the loss of the configuration.

    Args:
        targets: what the logits mean.
        num_classes: C.
        config: resolved training options.
        class_weights: (C,) factors of the classes' losses.
    """
    if config.targets == "multilabel":
        return MultiLabelObjective(targets, str(config.loss))
    if config.targets == "regression":
        assert isinstance(targets, RegressionTargets)
        return RegressionObjective(targets, str(config.loss))
    return ClassObjective(num_classes, str(config.loss), class_weights)
