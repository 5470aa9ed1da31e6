"""The plan of a training, whatever the task: data, model and all options resolved."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import nn

from transxnet.data.open_data import DataSource
from transxnet.models.model_spec import parse_model_name
from transxnet.models.timm_api import FourStages
from transxnet.runs.config import TrainConfig
from transxnet.training.distributed import Hardware
from transxnet.training.lightning_module import TrainingModule
from transxnet.utils.errors import UserError

DROP_PATH_RATE = 0.1
"""Default stochastic depth of models that have it."""


@dataclass(frozen=True)
class Plan(ABC):
    """A training that is ready to start.

    Attributes:
        config: with all options resolved.
        hardware: what it runs on.
        source: the images.
        model: with its initial weights.
        model_args: arguments, besides the number of classes, to build the model again.
        choices: a sentence for each option that was chosen automatically.
        notes: further messages for the user.
    """

    config: TrainConfig
    hardware: Hardware
    source: DataSource
    model: nn.Module
    model_args: dict[str, Any]
    choices: list[str]
    notes: list[str]

    @property
    def architecture(self) -> str:
        """The model's name without its tag, with its options unless ``model_args`` has them."""
        return parse_model_name(self.config.model).untagged_name

    @abstractmethod
    def data_module(self) -> LightningDataModule:
        """Create the data loaders; raises UserError for unknown augmentations."""

    @abstractmethod
    def training_module(self) -> TrainingModule:
        """Create the Lightning module."""

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """Return the preprocessing of images as plain data."""

    def description(self) -> dict[str, Any]:
        """Return what is stored with the weights to build the model again."""
        return {
            "task": self.config.task,
            "architecture": self.architecture,
            "model_args": self.model_args,
            "class_names": list(self.source.class_names),
            "preprocessing": self.preprocessing(),
        }


def checkpoint_gradients(network: nn.Module, config: TrainConfig) -> None:
    """Switch on gradient checkpointing as the options ask.

    Raises:
        UserError: the network does not support it.
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
