"""Lightning module for detection and instance segmentation."""

from types import MappingProxyType

from torch import Tensor

from transxnet.data.datasets.detection_dataset import Target
from transxnet.heads import MaskRCNN, RetinaNet
from transxnet.heads.detector_transform import unit_range
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
            "val_ap": "AP {:.1%}",
            "val_ap50": "AP50 {:.1%}",
            "val_ap75": "AP75 {:.1%}",
            "val_mask_ap": "mask AP {:.1%}",
        }
    )
    config: DetectConfig

    def __init__(self, model: RetinaNet | MaskRCNN, config: DetectConfig):
        super().__init__(model, config)
        self.masks = isinstance(model, MaskRCNN)
        self.val_metric = CocoMetric(self.masks)
        if config.compile:
            model.backbone.compile()

    def losses(self, batch: tuple[list[Tensor], list[Target]]) -> dict[str, Tensor]:
        """Compute the losses of a batch."""
        images, targets = batch
        return self.model(unit_range(images), targets)

    def validation_step(self, batch: tuple[list[Tensor], list[Target]], batch_idx: int) -> None:
        """Add the detections of a validation batch, image by image: padding to a common size would change them."""
        images, targets = batch
        with self.full_precision():
            answers = [answer for image in unit_range(images) for answer in self.best_weights([image])]
        self.val_metric.update(answers, targets)

    def on_validation_epoch_end(self) -> None:
        """Log the COCO metrics of the validation set."""
        figures = coco_metrics(self.val_metric.compute(), self.masks)
        self.val_metric.reset()
        self.log_validation({name: value for name, value in figures.items() if f"val_{name}" in self.columns})
