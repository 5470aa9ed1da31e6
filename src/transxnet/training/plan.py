"""The plan of a training run for any task: data, model and resolved options."""

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
"""Default stochastic depth rate of models that support it."""


@dataclass(frozen=True)
class Plan(ABC):
    """A training run that is ready to start.

    Attributes:
        config: resolved options.
        hardware: hardware of the run.
        source: training and validation images.
        model: model with its initial weights.
        model_args: arguments to rebuild the model, without the number of classes.
        choices: one message per option that was chosen automatically.
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
        """Model name without its tag; includes its options unless ``model_args`` has them."""
        return parse_model_name(self.config.model).untagged_name

    @property
    def validates(self) -> bool:
        """Whether there are validation images: always, unless ``val_fraction`` is 0."""
        return len(self.source.val) > 0

    @abstractmethod
    def data_module(self) -> LightningDataModule:
        """Create the data loaders; raises UserError for unknown augmentations."""

    @abstractmethod
    def training_module(self) -> TrainingModule:
        """Create the Lightning module."""

    @abstractmethod
    def preprocessing(self) -> dict[str, Any]:
        """Return the image preprocessing as plain data."""

    def description(self) -> dict[str, Any]:
        """Return the description that is stored with the weights to rebuild the model."""
        return {
            "task": self.config.task,
            "architecture": self.architecture,
            "model_args": self.model_args,
            "class_names": list(self.source.class_names),
            "preprocessing": self.preprocessing(),
        }


def checkpoint_gradients(network: nn.Module, config: TrainConfig) -> None:
    """Enable gradient checkpointing as set in the options.

    Raises:
        UserError: the network does not support gradient checkpointing.
    """
    if config.checkpointed_stages is not None:
        if not isinstance(network, FourStages):
            raise UserError(
                f"{config.model} does not support checkpointing single stages. Use --grad-checkpointing instead of "
                "--checkpointed-stages."
            )
        network.set_grad_checkpointing(stages=config.checkpointed_stages)
    elif config.grad_checkpointing:
        try:
            network.set_grad_checkpointing()  # type: ignore[operator]
        except (AssertionError, AttributeError) as error:
            raise UserError(
                f"{config.model} does not support gradient checkpointing. Remove --grad-checkpointing."
            ) from error
