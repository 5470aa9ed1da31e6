"""Lightning module for image classification."""

import torch
from timm.data import Mixup
from torch import Tensor, nn

from transxnet.metrics.best_epoch import monitored_metric
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.lightning_module import TrainingModule
from transxnet.training.objectives import ClassObjective, Objective
from transxnet.training.teacher import LogitTeacher


class Classifier(TrainingModule):
    """Lightning module of a classifier.

    Args:
        model: network (B, 3, S, S) -> (B, C).
        num_classes: C.
        config: resolved training options.
        objective: loss and metrics; by default the cross-entropy of classes.
        image_weights: (N,) weights of the training images in the loss; by default all are equal.
        teacher: network whose logits are imitated, too.
    """

    config: ClassifyConfig
    image_weights: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        config: ClassifyConfig,
        objective: Objective | None = None,
        image_weights: Tensor | None = None,
        teacher: LogitTeacher | None = None,
    ):
        super().__init__(model, config)
        self.monitor = monitored_metric(config.predicted)
        self.objective = objective or ClassObjective(num_classes)
        self.register_buffer("image_weights", image_weights, persistent=False)
        self.columns = self.objective.columns
        self.teacher = teacher
        self.mixup = None
        if config.mixup or config.cutmix:
            self.mixup = Mixup(config.mixup, config.cutmix, label_smoothing=config.smoothing, num_classes=num_classes)
        # In a list, to stay out of the module tree: the state dict must hold the model only once.
        self._train_forward = [torch.compile(model) if config.compile else model]

    def losses(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """Compute the loss of the labels, and that of the teacher if there is one."""
        images, target, positions = batch
        weights = None if self.image_weights is None else self.image_weights[positions]
        smoothing = self.config.smoothing
        if self.mixup is not None:
            images, target = self.mixup(images, target)
            smoothing = 0.0  # mixup has already smoothed the targets
        images = images.contiguous(memory_format=torch.channels_last)
        logits = self._train_forward[0](images).float()
        loss = self.objective.loss(logits, target, smoothing, weights)
        if self.teacher is None:
            return {"loss": loss}
        share = self.config.teacher_weight
        imitation = self.teacher.loss(logits, images, self.config.teacher_temperature)
        return {"labels": (1 - share) * loss, "teacher": share * imitation}

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Update loss and metrics with a validation batch."""
        images, target, _ = batch
        with self.full_precision():
            logits = self.best_weights(images.contiguous(memory_format=torch.channels_last)).float()
        self.objective.update(logits, target)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation set."""
        self.log_validation(self.objective.compute())
