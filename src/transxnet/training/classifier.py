"""Lightning module for image classification."""

from types import MappingProxyType
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import Mixup
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.lightning_module import TrainingModule


class Classifier(TrainingModule):
    """Lightning module of a classifier.

    Args:
        model: network (B, 3, S, S) -> (B, C).
        num_classes: C.
        config: resolved training options.
    """

    monitor = "val_accuracy"
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
        metrics: dict[str, Any] = {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "balanced_accuracy": MulticlassAccuracy(num_classes, average="macro"),
            "f1": MulticlassF1Score(num_classes, average="macro"),
        }
        if num_classes > 5:
            metrics["top5_accuracy"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
        self.val_metrics = MetricCollection(metrics, prefix="val_")
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
        logits = self.best_weights(images.contiguous(memory_format=torch.channels_last)).float()
        self.val_metrics.update(logits, target)
        self.val_loss.update(F.cross_entropy(logits, target, reduction="none"))  # not weighted here
        self.log("val_loss", self.val_loss)
        self.log_dict(self.val_metrics)
