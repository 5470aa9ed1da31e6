"""From a training's options to all that takes part in it, whatever the task."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningDataModule, seed_everything
from rich.console import Console
from timm.optim import list_optimizers
from torch import nn

from transxnet.data.dense_sources import DenseSource
from transxnet.data.sources import Source
from transxnet.models.create import check_name, name_options, without_tag
from transxnet.models.four_stages import FourStages
from transxnet.runs.config import TrainConfig
from transxnet.training.defaults import processes
from transxnet.training.lightning_module import Training
from transxnet.utils.errors import UserError, nearest

DROP_PATH_RATE = 0.1
"""Stochastic depth where the user does not say, for the models that have it."""


@dataclass(frozen=True)
class Plan(ABC):
    """What is to be trained on what, all options settled.

    Attributes:
        config: complete.
        source: the images.
        model: with its first weights.
        model_args: what it takes beyond the number of classes to build the model again.
        choices: a sentence for each option that was chosen for the user.
        notes: sentences that the user should read.
    """

    config: TrainConfig
    source: Source | DenseSource
    model: nn.Module
    model_args: dict[str, Any]
    choices: list[str]
    notes: list[str]

    @property
    def architecture(self) -> str:
        """The model's name without its tag; its options stay with it where they are not among the ``model_args``."""
        return without_tag(self.config.model)

    @abstractmethod
    def batches(self) -> LightningDataModule:
        """The images as the trainer takes them; raises UserError for augmentations that there are not."""

    @abstractmethod
    def training(self) -> Training:
        """The model as the trainer takes it."""

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """What is done to images before the model sees them, as plain data."""

    def description(self) -> dict[str, Any]:
        """What is stored beside the weights to build the model again."""
        return {
            "task": self.config.task,
            "architecture": self.architecture,
            "model_args": self.model_args,
            "class_names": list(self.source.class_names),
            "preprocessing": self.preprocessing(),
        }


def make_plan(config: TrainConfig, console: Console, stored_split: Path | None = None, resumed: bool = False) -> Plan:
    """Open the data, build the model and choose what the user left open.

    Args:
        config: the options.
        console: where to show progress.
        stored_split: file of an earlier split to use instead of drawing one.
        resumed: whether a training's own checkpoint will fill in the weights.

    Raises:
        UserError: data, model or weights that can't be opened or do not go together.
    """
    from transxnet.training.plan_classify import plan_classify
    from transxnet.training.plan_dense import plan_detect, plan_segment

    if not resumed:
        check_names(config)  # before the data is read, which may take long
    seed_everything(config.seed, verbose=False)
    make: Any = {"classify": plan_classify, "detect": plan_detect, "segment": plan_segment}[config.task]
    plan: Plan = make(config, console, stored_split, resumed)
    held_out, count = len(plan.source.val), processes(config)
    if held_out < count:  # a process without an image to evaluate would leave the others waiting
        raise UserError(
            f"{count} processes can't share {held_out} held-out images. Give fewer --devices or more held-out images."
        )
    return plan


def check_names(config: TrainConfig) -> None:
    """Raise UserError for a model, an optimiser or a checkpoint that there is not."""
    check_name(config.model)
    if own := name_options(config.model).keys() & {field.name for field in fields(config)}:
        option = sorted(own)[0]
        raise UserError(f"{config.model}: {option} is an option of the training. Give --{option} beside the name.")
    optimizer, known = config.opt.lower().removeprefix("lookahead_"), [str(name) for name in list_optimizers()]
    if optimizer not in known:
        raise UserError(
            f"timm has no optimiser {config.opt!r}.{nearest(optimizer, known)} "
            "Accepted: adamw, sgd, lamb and others, all by timm.optim.list_optimizers()."
        )
    if config.checkpoint is not None and config.pretrained:
        raise UserError("pretrained and checkpoint are both weights to start from; give one of them.")
    if config.checkpoint is not None and not Path(config.checkpoint).exists():
        raise UserError(f"there is no checkpoint {config.checkpoint}. Accepted: a run folder or a file of weights.")


def checkpoint_gradients(network: nn.Module, config: TrainConfig) -> None:
    """Let a network compute its activations again in the backward pass, if and where the options say so.

    Raises:
        UserError: it can't.
    """
    if config.checkpointed_stages is not None:
        if not isinstance(network, FourStages):
            raise UserError(
                f"{config.model} is checkpointed whole or not at all. Give --grad_checkpointing in the place of "
                "--checkpointed_stages."
            )
        network.set_grad_checkpointing(stages=config.checkpointed_stages)
    elif config.grad_checkpointing:
        try:
            network.set_grad_checkpointing()  # type: ignore[operator]
        except (AssertionError, AttributeError) as error:
            raise UserError(f"{config.model} has no gradient checkpointing. Leave out --grad_checkpointing.") from error
