"""Lightning module for semantic segmentation."""

from collections.abc import Iterator
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassConfusionMatrix
from torchvision import tv_tensors

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.data.loading.dense_transforms import AlignedResize, evaluation_scale
from transxnet.evaluation.tiled_segmentation import tiled_logits
from transxnet.heads import SemanticFPN
from transxnet.heads.detector_transform import float_images
from transxnet.heads.semantic_fpn import logits_at_size
from transxnet.metrics.best_epoch import monitored_metric
from transxnet.metrics.segmentation import class_pixels, segmentation_metrics
from transxnet.runs.task_configs import SegmentConfig
from transxnet.training.lightning_module import TrainingModule
from transxnet.training.objectives import pixel_losses


class Segmenter(TrainingModule):
    """Lightning module of a segmenter.

    Args:
        model: segmenter, see :mod:`transxnet.heads`.
        config: resolved training options.
    """

    monitor = monitored_metric("segment")
    columns = MappingProxyType(
        {
            "val_loss": "loss",
            "val_miou": "mean IoU",
            "val_mean_accuracy": "mean accuracy",
            "val_pixel_accuracy": "pixel accuracy",
        }
    )
    config: SegmentConfig

    def __init__(self, model: SemanticFPN, config: SegmentConfig):
        super().__init__(model, config)
        self.val_loss = MeanMetric(nan_strategy="disable")
        count = max(2, model.num_classes)  # torchmetrics needs two classes; one that never occurs has no effect
        self.val_confusion = MulticlassConfusionMatrix(count, ignore_index=IGNORE)
        if config.compile:
            model.backbone.compile()

    def losses(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """Compute the losses of a batch."""
        images, labels, _ = batch
        images = float_images([images])[0].contiguous(memory_format=torch.channels_last)
        return pixel_losses(self.config.loss, self.model(images), labels.as_subclass(Tensor).long())

    def validation_step(self, batch: tuple[list[Tensor], list[Tensor], Tensor], batch_idx: int) -> None:
        """Add the label maps of a validation batch, image by image, since sizes differ."""
        for image, labels in zip(*batch[:2], strict=True):
            labels = labels.as_subclass(Tensor).long()
            labeled, top = int((labels != IGNORE).sum()), 0
            with self.full_precision():
                for logits in self._logits(image, labels.shape):
                    rows = labels[None, top : top + logits.shape[1]]
                    top += logits.shape[1]
                    self.val_confusion.update(logits[None].argmax(1), rows)
                    if count := int((rows != IGNORE).sum()):
                        loss = F.cross_entropy(logits[None], rows, ignore_index=IGNORE)
                        self.val_loss.update(loss, count / labeled)

    def _logits(self, image: Tensor, size: torch.Size) -> Iterator[Tensor]:
        """Compute the logits (K, h, W) of an image, or of one row of tiles after the other if trained on tiles.

        Args:
            image: (C, h, w), resized for the model unless it is trained on tiles.
            size: height and width of the logits.
        """
        if self.config.tiling is None:
            return iter(logits_at_size(self.best_weights, image, size))
        assert self.config.crop is not None
        resize = AlignedResize(evaluation_scale(self.config.crop))

        def logits(tile: Tensor) -> Tensor:
            return logits_at_size(self.best_weights, resize(tv_tensors.Image(tile)), tile.shape[1:])[0]

        return tiled_logits(logits, image.as_subclass(Tensor), self.config.tiling)

    def on_validation_epoch_end(self) -> None:
        """Log mean IoU and the other metrics of the validation set."""
        confusion: np.ndarray = self.val_confusion.compute().cpu().numpy()
        self.val_confusion.reset()
        loss = {"loss": float(self.val_loss.compute())} if confusion.any() else {}
        self.val_loss.reset()
        self.log_validation(loss | segmentation_metrics(class_pixels(confusion)))
