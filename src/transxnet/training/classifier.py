"""Lightning module for image classification."""

from types import MappingProxyType

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassStatScores

from transxnet.metrics.best_epoch import monitored_metric
from transxnet.metrics.classification import TOP, classification_metrics
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.lightning_module import TrainingModule


class Classifier(TrainingModule):
    """Lightning module of a classifier.

    Args:
        model: network (B, 3, S, S) -> (B, C).
        num_classes: C.
        config: resolved training options.
    """

    monitor = monitored_metric("classify")
    columns = MappingProxyType(
        {
            "val_loss": "loss {:.3f}",
            "val_accuracy": "accuracy {:.1%}",
            "val_balanced_accuracy": "balanced {:.1%}",
            "val_f1": "F1 {:.1%}",
            "val_top5_accuracy": "top-5 {:.1%}",
        }
    )
    config: ClassifyConfig

    def __init__(self, model: nn.Module, num_classes: int, config: ClassifyConfig):
        super().__init__(model, config)
        self.mixup = None
        if config.mixup or config.cutmix:
            self.mixup = Mixup(config.mixup, config.cutmix, label_smoothing=config.smoothing, num_classes=num_classes)
        self.val_counts = MulticlassStatScores(num_classes, average=None)
        self.val_top_counts = None
        if num_classes > TOP:
            self.val_top_counts = MulticlassStatScores(num_classes, average="micro", top_k=TOP)
        # Lightning's own mean rounds when processes have unequal numbers of images. "disable" ignores weights.
        self.val_loss = MeanMetric(nan_strategy="disable")
        # In a list, to stay out of the module tree: the state dict must hold the model only once.
        self._train_forward = [torch.compile(model) if config.compile else model]

    def losses(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """Compute the cross-entropy of a batch."""
        images, target, _ = batch
        smoothing = self.config.smoothing
        if self.mixup is not None:
            images, target = self.mixup(images, target)
            smoothing = 0.0  # mixup has already smoothed the targets
        logits = self._train_forward[0](images.contiguous(memory_format=torch.channels_last))
        return {"cross_entropy": F.cross_entropy(logits.float(), target, label_smoothing=smoothing)}

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Update loss and metrics with a validation batch."""
        images, target, _ = batch
        with self.full_precision():
            logits = self.best_weights(images.contiguous(memory_format=torch.channels_last)).float()
        probabilities = logits.softmax(dim=1)  # as in the final evaluation, where rounding can make classes equal
        self.val_counts.update(probabilities.argmax(dim=1), target)
        if self.val_top_counts is not None:
            self.val_top_counts.update(probabilities, target)
        self.val_loss.update(F.cross_entropy(logits, target, reduction="none"))  # not weighted here

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        top = None if self.val_top_counts is None else self.val_top_counts.compute().cpu().numpy()
        figures = classification_metrics(self.val_counts.compute().cpu().numpy(), top)
        loss = {"loss": float(self.val_loss.compute())}
        self.log_validation(loss | figures)
        for metric in (self.val_counts, self.val_top_counts, self.val_loss):
            if metric is not None:
                metric.reset()
