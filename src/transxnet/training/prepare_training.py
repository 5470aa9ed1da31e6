"""Create the objects of a training run: Lightning's trainer, module, data and callbacks."""

import logging
import warnings
from dataclasses import dataclass
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import MixedPrecision
from rich.console import Console

from transxnet.runs.run_folder import Run
from transxnet.training.averaging import EpochWeights
from transxnet.training.callbacks import BestAndLast, EarlyStop, EpochLog, GracefulStop
from transxnet.training.checkpoint_files import Checkpoint, CheckpointFiles
from transxnet.training.distributed import ProcessWatch
from transxnet.training.extensions import Extensions
from transxnet.training.lightning_module import TrainingModule
from transxnet.training.loggers import create_loggers
from transxnet.training.plan import Plan
from transxnet.training.sync_batchnorm import BatchNormSync
from transxnet.training.training_progress import TrainingProgress
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class PreparedTraining:
    """The objects of a training run; creating them writes no files."""

    plan: Plan
    run: Run
    module: TrainingModule
    data: LightningDataModule
    log: EpochLog
    stop: GracefulStop
    epochs: EpochWeights | None
    trainer: Trainer


def prepare_training(
    plan: Plan, run: Run, console: Console, extensions: Extensions, checkpoint: Checkpoint | None = None
) -> PreparedTraining:
    """Create the objects of a training run from its plan.

    Args:
        plan: the plan; receives notes on the extensions.
        run: its run.
        console: console for messages of the callbacks.
        extensions: objects of the caller.
        checkpoint: checkpoint to resume from, if any.

    Raises:
        UserError: Lightning does not support the options, or a logger cannot be created.
    """
    plan.notes.extend(extensions.notes())
    module = plan.training_module()
    log, stop, files = EpochLog(run, console), GracefulStop(run), CheckpointFiles(run, checkpoint)
    averaged = plan.config.averaged_epochs()
    epochs = None if averaged is None else EpochWeights(run, *averaged, module.monitor, console)
    callbacks: list[Callback] = [log, stop, *([] if epochs is None else [epochs])]  # last.ckpt has the state of epochs
    callbacks += [BestAndLast(run, module.monitor, console), ProcessWatch(run)]
    if plan.config.patience is not None:
        callbacks.append(EarlyStop(module.monitor, plan.config.patience, console))
    callbacks += [LearningRateMonitor("step"), *extensions.callbacks]
    loggers = [*create_loggers(plan.config, run), *extensions.loggers]
    try:
        trainer = _create_trainer(run, plan, console, callbacks, loggers, files)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        config = plan.config
        raise UserError(
            f"this machine or Lightning does not support device {config.device}, devices {config.devices}, "
            f"strategy {config.strategy} and precision {config.precision} together: {error}"
        ) from error
    return PreparedTraining(plan, run, module, plan.data_module(), log, stop, epochs, trainer)


def _create_trainer(
    run: Run,
    plan: Plan,
    console: Console,
    callbacks: list[Callback],
    loggers: list[Logger],
    files: CheckpointFiles,
) -> Trainer:
    config, hardware = plan.config, plan.hardware
    assert config.epochs is not None
    if console.is_terminal:
        callbacks = [TrainingProgress(console), *callbacks]
    # Lightning would use bfloat16 without a gradient scaler instead.
    half_on_cpu = config.precision == "16-mixed" and hardware.device == "cpu"
    plugins: list[Any] = [files, *([MixedPrecision("16-mixed", "cpu")] if half_on_cpu else [])]
    if hardware.processes > 1:
        plugins.append(BatchNormSync(gpu=hardware.device == "cuda"))
    return Trainer(
        default_root_dir=run.path,
        max_epochs=config.epochs + config.cooldown_epochs,
        check_val_every_n_epoch=config.val_every,
        limit_val_batches=None if plan.validates else 0,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.clip_grad,
        precision=None if half_on_cpu else config.precision,  # type: ignore[arg-type]
        accelerator=config.device,
        devices=config.devices,
        num_nodes=config.num_nodes,
        strategy=config.strategy,
        plugins=plugins,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=loggers,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def silence_lightning() -> None:
    """Hide the hints of Lightning that do not apply to users of this package."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*The number of training batches .* is smaller than the logging interval.*",
        ".*module.s. in eval mode at the start of training.*",  # the EMA model stays in eval mode
        ".*isinstance.treespec, LeafSpec.*",
        ".*your dataloader is not resumable.*",  # it is: its sampler skips the batches drawn before
        ".*No positive samples in targets.*",
        ".*Grad strides do not match bucket view strides.*",  # of a dimension of size 1, where they do not matter
    ):
        warnings.filterwarnings("ignore", message)
