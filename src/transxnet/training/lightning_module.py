"""The Lightning module that all tasks share: losses, optimizer, schedule, averaged weights, non-finite updates."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.optim import Optimizer

from transxnet.data.loading.samplers import seed_step
from transxnet.runs.config import TrainConfig
from transxnet.training.freezing import FrozenPart
from transxnet.training.nonfinite import BufferSnapshot, is_finite_update
from transxnet.utils.errors import UserError

_logger = logging.getLogger(__name__)


class NonFiniteLoss(UserError):
    """The loss is NaN or Inf."""


class TrainingModule(LightningModule, ABC):
    """A network with its losses, its optimizer and the EMA of its weights.

    All randomness of a step (mixup, stochastic depth, dropout, sampling) is seeded by the run's seed and the step
    number. If losses or gradients are non-finite in any process, all processes skip the update and count it.

    Args:
        model: network to train.
        config: resolved training options.
    """

    monitor: str
    """Validation metric that selects the best epoch; higher is better."""
    columns: Mapping[str, str]
    """Validation metrics, each with its console format."""

    def __init__(self, model: nn.Module, config: TrainConfig):
        super().__init__()
        self.model = model
        self.config = config
        self.ema = ModelEmaV3(model, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None
        if self.ema is not None:
            self.ema.requires_grad_(False)  # otherwise DDP would wait for its gradients
        self.frozen = FrozenPart(model, config.freeze, config.freeze_epochs) if config.freeze else None
        self.skipped = 0
        """Number of skipped updates in the current epoch."""
        self.validation_metrics: dict[str, float] = {}
        """Metrics of the last validation in float64; Lightning logs them in float32."""
        self._skipped_in_row = 0
        self._pending: list[dict[str, Tensor]] = []  # losses since the last update
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._snapshot: BufferSnapshot | None = None

    @property
    def best_weights(self) -> nn.Module:
        """The network to validate and save: the EMA model if there is one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def trained(self) -> nn.Module:
        """The modules that the optimizer trains: the network, and whatever is trained with it."""
        return self.model

    @abstractmethod
    def losses(self, batch: Any) -> Mapping[str, Tensor]:
        """Compute the losses of a training batch, by name; training minimizes their sum."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute the total loss of a batch."""
        seed_step(self.config.seed, self._step_number())
        losses = self.losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        named = {"train_loss": loss, **({f"train_{k}": v for k, v in losses.items()} if len(losses) > 1 else {})}
        self._pending.append({name: value.detach() for name, value in named.items()})
        self.log("train_loss_step", loss.detach(), batch_size=1)
        return loss

    def epoch_losses(self) -> dict[str, float]:
        """Return the mean losses of the epoch's updates so far over all processes; a collective call."""
        self._check_any_update()
        means = {name: total.to(self.device) / max(1, self._count) for name, total in self._sums.items()}
        return {name: float(self.trainer.strategy.reduce(mean)) for name, mean in means.items()}

    def full_precision(self) -> torch.autocast:
        """Disable autocast: validation computes in the precision of the saved model's evaluation and predictions."""
        return torch.autocast(self.device.type, enabled=False)

    def log_validation(self, figures: Mapping[str, float]) -> None:
        """Store and log those metrics of the epoch's validation that are columns; they are equal in all processes."""
        named = {f"val_{name}": value for name, value in figures.items()}
        self.validation_metrics = {name: value for name, value in named.items() if name in self.columns}
        self.log_dict({name: torch.tensor(value) for name, value in self.validation_metrics.items()}, sync_dist=True)

    def validated(self) -> bool:
        """Return whether the current epoch ends with a validation."""
        return self.trainer.enable_validation and (self.trainer.current_epoch + 1) % self.config.val_every == 0

    def setup(self, stage: str) -> None:
        """Convert the weights to channels-last layout.

        This must precede DistributedDataParallel, which plans its buckets by the strides of the weights. If those
        change later it computes wrong gradients and only warns (torch 2.15).
        """
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.frozen is not None:
            self.frozen.apply(self.trainer.current_epoch)

    def on_train_start(self) -> None:
        """Save the running statistics before the first update, which may be non-finite."""
        self._snapshot = BufferSnapshot(self.trained)
        self.on_train_epoch_start()  # which Lightning does not call when it resumes within an epoch

    def on_train_epoch_start(self) -> None:
        """Freeze or unfreeze a part of the network; Lightning has put all of it into training mode."""
        if self.frozen is not None:
            self.frozen.apply(self.trainer.current_epoch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the current epoch's losses and number of skipped updates."""
        sums = {name: total.item() for name, total in self._sums.items()}
        skipped = {"skipped": self.skipped, "skipped_in_row": self._skipped_in_row}
        checkpoint["train_loss"] = {"sums": sums, "count": self._count, **skipped}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the losses of the interrupted epoch."""
        saved = checkpoint["train_loss"]
        self._sums = {name: torch.tensor(total) for name, total in saved["sums"].items()}
        self._count = saved["count"]
        checkpoint["lr_schedulers"] = []  # the schedule depends on the options only, which may have more epochs now
        self.skipped, self._skipped_in_row = saved.get("skipped", 0), saved.get("skipped_in_row", 0)

    def on_validation_start(self) -> None:
        """Fail if no update of the epoch was finite, so that such a network is never saved."""
        self._check_any_update()

    def on_validation_end(self) -> None:
        """Fail if the weights or the validation loss are non-finite: the epoch's last update may have caused it."""
        weights = [parameter.detach() for parameter in self.best_weights.parameters()]
        self._check_finite(torch.stack([weight.abs().max() for weight in weights if weight.numel()]).max())
        if "val_loss" in self.trainer.callback_metrics:
            self._check_finite(self.trainer.callback_metrics["val_loss"])

    def on_train_epoch_end(self) -> None:
        """Reset the losses for the next epoch."""
        self._sums, self._count, self.skipped = {}, 0, 0

    def configure_optimizers(self) -> Any:
        """Create timm's optimizer with weight-decay and layer-decay groups, and its per-update schedule."""
        config = self.config
        if config.freeze_epochs is not None:
            self.model.requires_grad_(True)  # the optimizer takes all weights, also those that are frozen at first
        # One kernel for all weights. float16's scaler cannot clip gradients of a fused optimizer.
        fused: dict[str, Any] = (
            {"fused": True} if config.opt == "adamw" and self.trainer.precision != "16-mixed" else {}
        )
        optimizer = create_optimizer_v2(
            self.trained,
            config.opt,
            lr=config.lr,
            weight_decay=config.weight_decay,
            layer_decay=config.layer_decay,
            **fused,
        )
        if self.frozen is not None:
            self.frozen.apply(self.trainer.current_epoch)
        assert config.epochs is not None
        updates = round(self.trainer.estimated_stepping_batches / (config.epochs + config.cooldown_epochs))
        scheduler = _create_scheduler(optimizer, config, updates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of all gradients; Lightning itself refuses to with a fused optimizer in mixed precision."""
        if gradient_clip_val is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Pass the number of updates to timm's scheduler."""
        scheduler.step_update(num_updates=self.trainer.global_step)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Add up the losses of the update, or skip the update in all processes if it is non-finite in any."""
        pending, self._pending = self._pending, []
        finite = is_finite_update(optimizer, [losses["train_loss"] for losses in pending])
        if self.trainer.strategy.reduce_boolean_decision(finite):
            self._skipped_in_row = 0
            self._count += len(pending)
            for losses in pending:
                for name, loss in losses.items():
                    self._sums[name] = self._sums.get(name, torch.zeros(())).to(loss.device) + loss
        else:
            optimizer.zero_grad(set_to_none=True)  # optimizers skip parameters without a gradient
            self.skipped += 1
            self._skipped_in_row += 1

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Update the weights and then their EMA; restore the buffers after a skipped update."""
        super().optimizer_step(*args, **kwargs)
        assert self._snapshot is not None
        if not self._skipped_in_row:
            self._snapshot.save()
            if self.ema is not None:
                self.ema.update(self.model, step=self.trainer.global_step)
            return
        self._snapshot.restore()
        in_row = (
            f"{self._skipped_in_row} in a row; training stops after more than --max-skipped {self.config.max_skipped}"
        )
        _logger.warning(
            "skipped the update of step %d: its loss or gradient is NaN or infinite (%s)", self._step_number(), in_row
        )
        if self._skipped_in_row > self.config.max_skipped:
            raise self._not_finite(f"{self._skipped_in_row} consecutive updates were skipped. ")

    def _step_number(self) -> int:
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def _check_any_update(self) -> None:
        if self.skipped and not self._count:
            raise self._not_finite("All updates of the epoch were skipped. ")

    def _check_finite(self, value: Tensor) -> None:
        if not math.isfinite(value.item()):
            raise self._not_finite()

    def _not_finite(self, why: str = "") -> NonFiniteLoss:
        step, epoch = self._step_number(), self.trainer.current_epoch
        return NonFiniteLoss(
            f"the loss became NaN or infinite at step {step} (epoch {epoch + 1}). {why}This epoch is not saved. Lower "
            f"the learning rate (--lr, now {self.config.lr:g}), clip gradients (--clip-grad 1), or train in float32 "
            "(--precision 32-true)."
        )


def learning_rates(config: TrainConfig, updates_per_epoch: int, updates: Iterable[int] | None = None) -> list[float]:
    """Compute the learning rate of updates of a training, without layer decay.

    Args:
        config: resolved options.
        updates_per_epoch: number of updates of each epoch.
        updates: the updates, from 0, in ascending order; by default all.
    """
    assert config.epochs is not None and config.lr is not None
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=config.lr)
    scheduler = _create_scheduler(optimizer, config, updates_per_epoch)
    rates = []
    for update in range((config.epochs + config.cooldown_epochs) * updates_per_epoch) if updates is None else updates:
        if update:
            scheduler.step_update(num_updates=update)
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates


def _create_scheduler(optimizer: Optimizer, config: TrainConfig, updates_per_epoch: int) -> Any:
    """Create timm's schedule of the learning rate, which is stepped after each update."""
    assert config.epochs is not None and config.lr is not None
    milestones = config.decay_epochs()
    scheduler, _ = create_scheduler_v2(
        optimizer,
        "multistep" if milestones else "cosine",
        num_epochs=config.epochs,
        # Half an update later, since timm drops the learning rate one update too early.
        decay_milestones=[epoch + 0.5 / updates_per_epoch for epoch in milestones],  # type: ignore[misc]
        decay_rate=0.1,
        min_lr=min(config.min_lr, config.lr),
        warmup_lr=min(config.warmup_lr, config.lr),
        warmup_epochs=config.warmup_epochs,  # type: ignore[arg-type]
        cooldown_epochs=config.cooldown_epochs,
        step_on_epochs=False,
        updates_per_epoch=updates_per_epoch,
    )
    return scheduler
