"""Image classification as Lightning trains it."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from timm.data import Mixup
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from transxnet.data.sampler import seed_step
from transxnet.errors import UserError
from transxnet.tasks.config import TrainConfig

FINITE_CHECK_EVERY = 25
"""Steps between looks at the loss on a GPU, where each look waits for the device."""


class NonFiniteLoss(UserError):
    """The loss is no number any more."""


class Classifier(LightningModule):
    """A network, its loss, its optimiser and the average of its weights.

    All randomness of a step (mixup, stochastic depth, dropout) follows from the run's seed and the step's number.

    Args:
        model: (B, 3, S, S) -> (B, C).
        num_classes: C.
        config: the training's options, resolved.
    """

    def __init__(self, model: nn.Module, num_classes: int, config: TrainConfig):
        super().__init__()
        self.model = model
        self.config = config
        self.ema = ModelEmaV3(model, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None
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
        # Kept out of the module tree, so that the state dict holds the plain model once.
        self._train_forward = [torch.compile(model) if config.compile else model]
        self._loss_sum, self._loss_count = torch.zeros(()), 0

    @property
    def best_weights(self) -> nn.Module:
        """The network to validate and keep: the averaged one, where there is one."""
        return self.model if self.ema is None else self.ema.module

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of one batch."""
        seed_step(self.config.seed, self._step_number())
        images, target, _ = batch
        smoothing = self.config.smoothing
        if self.mixup is not None:
            images, target = self.mixup(images, target)
            smoothing = 0.0  # in the mixed targets already
        logits = self._train_forward[0](images.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), target, label_smoothing=smoothing)
        self._watch(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int) -> None:
        """Loss and metrics of one held-out batch."""
        images, target, _ = batch
        logits = self.best_weights(images.contiguous(memory_format=torch.channels_last)).float()
        self.val_metrics.update(logits, target)
        self.log("val_loss", F.cross_entropy(logits, target), batch_size=len(images), sync_dist=True)
        self.log_dict(self.val_metrics)

    def on_fit_start(self) -> None:
        """Lay the weights out for the convolutions."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The running epoch's loss so far."""
        checkpoint["train_loss"] = {"sum": self._loss_sum.item(), "count": self._loss_count}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on adding up the loss of the epoch that was interrupted."""
        saved = checkpoint["train_loss"]
        self._loss_sum, self._loss_count = torch.tensor(saved["sum"]), saved["count"]

    def on_validation_start(self) -> None:
        """Never validate, and so never keep, a network whose loss is no number."""
        self._check_finite(self._loss_sum)
        self.log("train_loss", self._loss_sum.to(self.device) / max(1, self._loss_count), sync_dist=True)

    def on_validation_end(self) -> None:
        """The epoch's last update can be the one that breaks the network: then nothing of it is kept either."""
        self._check_finite(self.trainer.callback_metrics["val_loss"])

    def on_train_epoch_end(self) -> None:
        """The next epoch's loss starts from zero."""
        self._loss_sum, self._loss_count = torch.zeros(()), 0

    def configure_optimizers(self) -> Any:
        """timm's optimiser with its weight-decay and layer-decay groups, and a cosine by updates."""
        config = self.config
        optimizer = create_optimizer_v2(
            self.model, config.opt, lr=config.lr, weight_decay=config.weight_decay, layer_decay=config.layer_decay
        )
        assert config.epochs is not None and config.lr is not None
        updates = round(self.trainer.estimated_stepping_batches / (config.epochs + config.cooldown_epochs))
        scheduler, _ = create_scheduler_v2(
            optimizer,
            num_epochs=config.epochs,
            min_lr=min(config.min_lr, config.lr),
            warmup_lr=min(config.warmup_lr, config.lr),
            warmup_epochs=config.warmup_epochs,  # type: ignore[arg-type]
            cooldown_epochs=config.cooldown_epochs,
            step_on_epochs=False,
            updates_per_epoch=updates,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """timm's schedulers count updates themselves."""
        scheduler.step_update(num_updates=self.trainer.global_step)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """An update of the weights, then of their average."""
        super().optimizer_step(*args, **kwargs)
        if self.ema is not None:
            self.ema.update(self.model, step=self.trainer.global_step)

    def _step_number(self) -> int:
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def _watch(self, loss: Tensor) -> None:
        self._loss_sum, self._loss_count = self._loss_sum.to(loss.device) + loss, self._loss_count + 1
        if loss.device.type == "cpu" or self._step_number() % FINITE_CHECK_EVERY == 0:
            self._check_finite(self._loss_sum)

    def _check_finite(self, loss: Tensor) -> None:
        if math.isfinite(loss.item()):
            return
        step, epoch = self._step_number(), self.trainer.current_epoch
        raise NonFiniteLoss(
            f"the loss is not finite any more at step {step} (epoch {epoch + 1}). Nothing of this epoch is kept. "
            f"Lower the learning rate (lr is {self.config.lr:g}), clip the gradient (--clip_grad 1), or train in full "
            "precision (--precision 32-true)."
        )
