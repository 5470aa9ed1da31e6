"""The Lightning module that all tasks share: losses, optimizer, schedule, averaged weights, non-finite updates."""

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
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
from transxnet.training.nonfinite import BufferSnapshot, is_finite_update
from transxnet.utils.errors import UserError

_logger = logging.getLogger(__name__)


class NonFiniteLoss(UserError):
    """The loss is NaN or Inf."""


class TrainingModule(LightningModule, ABC):
    """A network, its losses, its optimiser and the average of its weights.

    All randomness of a step (mixup, stochastic depth, dropout, sampling) follows from the run's seed and the step's
    number. An update whose losses or gradients are not finite in any process is left out in all of them and counted.

    Args:
        model: the network.
        config: the training's options, resolved.
    """

    monitor: str
    """Of the figures of an epoch the one by which epochs are compared; more is better."""
    columns: Mapping[str, str]
    """The figures that validation gives, and how the console shows each."""

    def __init__(self, model: nn.Module, config: TrainConfig):
        super().__init__()
        self.model = model
        self.config = config
        self.ema = ModelEmaV3(model, decay=config.ema_decay, use_warmup=True) if config.ema_decay else None
        if self.ema is not None:
            self.ema.requires_grad_(False)  # several processes would wait for its gradients
        self.skipped = 0
        """Updates of the running epoch that were left out."""
        self._skipped_in_row = 0
        self._pending: list[dict[str, Tensor]] = []  # the losses since the last update
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._snapshot: BufferSnapshot | None = None

    @property
    def best_weights(self) -> nn.Module:
        """The network to validate and keep: the averaged one, where there is one."""
        return self.model if self.ema is None else self.ema.module

    @abstractmethod
    def losses(self, batch: Any) -> Mapping[str, Tensor]:
        """The losses of a training batch by name; their sum is what is minimised."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of one batch."""
        seed_step(self.config.seed, self._step_number())
        losses = self.losses(batch)
        loss = torch.stack(list(losses.values())).sum()
        named = {"train_loss": loss, **({f"train_{k}": v for k, v in losses.items()} if len(losses) > 1 else {})}
        self._pending.append({name: value.detach() for name, value in named.items()})
        return loss

    def epoch_losses(self) -> dict[str, float]:
        """Mean losses of the updates that the epoch made so far, over all processes, which must all ask."""
        self._check_any_update()
        means = {name: total.to(self.device) / max(1, self._count) for name, total in self._sums.items()}
        return {name: float(self.trainer.strategy.reduce(mean)) for name, mean in means.items()}

    def validated(self) -> bool:
        """Whether the epoch that ends is one that the held-out images judge."""
        return (self.trainer.current_epoch + 1) % self.config.val_every == 0

    def setup(self, stage: str) -> None:
        """Lay the weights out for the convolutions.

        Before DistributedDataParallel sees them: it plans its messages by their strides, and where those change later
        it gives wrong gradients with no more than a warning (torch 2.15).
        """
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def on_train_start(self) -> None:
        """Remember the running statistics before the first update, which may be a bad one."""
        self._snapshot = BufferSnapshot(self.model)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The running epoch's losses so far, and what was left out of them."""
        sums = {name: total.item() for name, total in self._sums.items()}
        left_out = {"skipped": self.skipped, "skipped_in_row": self._skipped_in_row}
        checkpoint["train_loss"] = {"sums": sums, "count": self._count, **left_out}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on adding up the losses of the epoch that was interrupted."""
        saved = checkpoint["train_loss"]
        self._sums = {name: torch.tensor(total) for name, total in saved["sums"].items()}
        self._count = saved["count"]
        self.skipped, self._skipped_in_row = saved.get("skipped", 0), saved.get("skipped_in_row", 0)

    def on_validation_start(self) -> None:
        """Never validate, and so never keep, a network whose loss is no number."""
        self._check_any_update()

    def on_validation_end(self) -> None:
        """The epoch's last update can be the one that breaks the network: then nothing of it is kept either."""
        weights = [parameter.detach() for parameter in self.best_weights.parameters()]
        self._check_finite(torch.stack([weight.abs().max() for weight in weights if weight.numel()]).max())
        if "val_loss" in self.trainer.callback_metrics:
            self._check_finite(self.trainer.callback_metrics["val_loss"])

    def on_train_epoch_end(self) -> None:
        """The next epoch's losses start from zero."""
        self._sums, self._count, self.skipped = {}, 0, 0

    def configure_optimizers(self) -> Any:
        """timm's optimiser with its weight-decay and layer-decay groups; a cosine or steps, by updates."""
        config = self.config
        optimizer = create_optimizer_v2(
            self.model, config.opt, lr=config.lr, weight_decay=config.weight_decay, layer_decay=config.layer_decay
        )
        assert config.epochs is not None and config.lr is not None
        milestones = config.decay_epochs()
        updates = round(self.trainer.estimated_stepping_batches / (config.epochs + config.cooldown_epochs))
        scheduler, _ = create_scheduler_v2(
            optimizer,
            "multistep" if milestones else "cosine",
            num_epochs=config.epochs,
            # Half an update later, since timm drops the rate one update early.
            decay_milestones=[epoch + 0.5 / updates for epoch in milestones],  # type: ignore[misc]
            decay_rate=0.1,
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

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Count the losses of an update, or leave it out where something of it is not finite, in all processes."""
        pending, self._pending = self._pending, []
        finite = is_finite_update(optimizer, [losses["train_loss"] for losses in pending])
        if self.trainer.strategy.reduce_boolean_decision(finite):
            self._skipped_in_row = 0
            self._count += len(pending)
            for losses in pending:
                for name, loss in losses.items():
                    self._sums[name] = self._sums.get(name, torch.zeros(())).to(loss.device) + loss
        else:
            optimizer.zero_grad(set_to_none=True)  # optimisers pass over parameters without a gradient
            self.skipped += 1
            self._skipped_in_row += 1

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """An update of the weights, then of their average; or neither."""
        super().optimizer_step(*args, **kwargs)
        assert self._snapshot is not None
        if not self._skipped_in_row:
            self._snapshot.save()
            if self.ema is not None:
                self.ema.update(self.model, step=self.trainer.global_step)
            return
        self._snapshot.restore()
        in_row = f"{self._skipped_in_row} in a row; more than --max_skipped {self.config.max_skipped} stop"
        _logger.warning("step %d made no update: its loss or gradient is not finite (%s)", self._step_number(), in_row)
        if self._skipped_in_row > self.config.max_skipped:
            raise self._not_finite(f"{self._skipped_in_row} updates in a row were not made. ")

    def _step_number(self) -> int:
        return self.trainer.fit_loop.epoch_loop.total_batch_idx

    def _check_any_update(self) -> None:
        if self.skipped and not self._count:
            raise self._not_finite("The epoch made no update. ")

    def _check_finite(self, value: Tensor) -> None:
        if not math.isfinite(value.item()):
            raise self._not_finite()

    def _not_finite(self, why: str = "") -> NonFiniteLoss:
        step, epoch = self._step_number(), self.trainer.current_epoch
        return NonFiniteLoss(
            f"the loss is not finite any more at step {step} (epoch {epoch + 1}). {why}Nothing of this epoch is kept. "
            f"Lower the learning rate (lr is {self.config.lr:g}), clip the gradient (--clip_grad 1), or train in full "
            "precision (--precision 32-true)."
        )
