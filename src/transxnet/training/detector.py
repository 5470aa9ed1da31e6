"""Lightning module for detection and instance segmentation."""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanMetric

from transxnet.data.datasets.detection_dataset import Target
from transxnet.data.loading.samplers import seed_step
from transxnet.data.training_tiles import crop_target
from transxnet.evaluation.tiled_detection import detect_tiles
from transxnet.heads import MaskRCNN, RetinaNet
from transxnet.heads.detector_transform import float_images
from transxnet.metrics.best_epoch import monitored_metric
from transxnet.metrics.detection import CocoMetric, coco_metrics
from transxnet.runs.task_configs import DetectConfig
from transxnet.training.lightning_module import TrainingModule


class Detector(TrainingModule):
    """Lightning module of a detector.

    Args:
        model: detector, see :mod:`transxnet.heads`.
        config: resolved training options.
    """

    monitor = monitored_metric("detect")
    columns = MappingProxyType(
        {
            "val_loss": "loss",
            "val_ap": "AP",
            "val_ap50": "AP50",
            "val_ap75": "AP75",
            "val_mask_ap": "mask AP",
        }
    )
    config: DetectConfig

    def __init__(self, model: RetinaNet | MaskRCNN, config: DetectConfig):
        super().__init__(model, config)
        self.masks = isinstance(model, MaskRCNN)
        self.val_metric = CocoMetric(self.masks)
        self.val_loss = MeanMetric(nan_strategy="disable")
        if config.compile:
            model.backbone.compile()

    def losses(self, batch: tuple[list[Tensor], list[Target]]) -> dict[str, Tensor]:
        """Compute the losses of a batch."""
        images, targets = batch
        return self.model(float_images(images), targets)

    def validation_step(self, batch: tuple[list[Tensor], list[Target]], batch_idx: int) -> None:
        """Add detections and losses of a validation batch, image by image: padding to a common size changes them."""
        images, targets = batch
        with self.full_precision():
            answers = [self._detect(image) for image in images]
        self.val_metric.update(answers, targets)
        seed_step(self.config.seed, batch_idx)  # the losses of Mask R-CNN sample anchors and regions
        with self.full_precision():
            for image, target in zip(images, targets, strict=True):
                for part, objects in self._tiles(image, target):
                    self.val_loss.update(self._validation_loss(float_images([part])[0], objects))

    def _detect(self, image: Tensor) -> dict[str, Tensor]:
        """Detect objects in an image (C, H, W), tile by tile if it is trained on tiles."""

        def detect(part: Tensor) -> dict[str, Tensor]:
            return self.best_weights(float_images([part]))[0]

        if self.config.tiling is None:
            return detect(image)
        found = detect_tiles(detect, image, self.config.tiling).to_output(*image.shape[1:])
        return {name: value.to(image.device) for name, value in found.items()}

    def _tiles(self, image: Tensor, target: Target) -> Iterator[tuple[Tensor, Target]]:
        """Iterate over the tiles of an image with their objects, or over the image if it is not trained on tiles."""
        if self.config.tiling is None:
            yield image, target
            return
        for window in self.config.tiling.windows(*image.shape[1:]):
            left, top, right, bottom = window
            yield image[:, top:bottom, left:right], crop_target(target, window)

    def _validation_loss(self, image: Tensor, target: Target) -> Tensor:
        """Compute the sum of the losses of an image without its crowds; norms and dropout stay in evaluation mode."""
        model: Any = self.best_weights
        kept = target["iscrowd"] == 0
        target = {
            name: target[name].as_subclass(Tensor)[kept] for name in ("boxes", "labels", "masks") if name in target
        }
        parts = [model, *(getattr(model, name) for name in ("transform", "rpn", "roi_heads") if hasattr(model, name))]
        for part in parts:
            part.training = True  # not train(), which includes their layers
        try:
            return torch.stack(list(model([image], [target]).values())).sum()
        finally:
            for part in parts:
                part.training = False

    def on_validation_epoch_end(self) -> None:
        """Log the COCO metrics of the validation set."""
        figures = coco_metrics(self.val_metric.compute(), self.masks)
        self.val_metric.reset()
        loss = {"loss": float(self.val_loss.compute())}
        self.val_loss.reset()
        self.log_validation(loss | figures)
