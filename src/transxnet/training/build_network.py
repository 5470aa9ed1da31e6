"""Build the network of a classifier or a pretraining, with its initial weights."""

from typing import Any

import torch
from torch import nn

from transxnet.data.loading.preprocessing import check_sides
from transxnet.models.create import create_model_with, wrong_size_as_user_error
from transxnet.runs.config import TrainConfig
from transxnet.training.init_weights import load_initial_weights
from transxnet.training.plan import DROP_PATH_RATE, checkpoint_gradients
from transxnet.utils.errors import UserError


def build_network(
    config: TrainConfig, num_classes: int, size: int, resumed: bool, **arguments: Any
) -> tuple[nn.Module, dict[str, Any], list[str]]:
    """Build a network, and run it on one image.

    Args:
        config: training options.
        num_classes: number of classes; 0 for the pooled features.
        size: side of the input in pixels.
        resumed: whether a checkpoint will replace the weights.
        **arguments: further arguments of the network.

    Returns:
        The network, those of the optional arguments that it supports, and notes for the user.

    Raises:
        UserError: the network does not support the options or the size, or the weights do not fit.
    """
    options: dict[str, Any] = dict(num_classes=num_classes, pretrained=config.pretrained and not resumed)
    wishes: dict[str, Any] = {"img_size": size}
    if config.drop_path_rate is None:
        wishes["drop_path_rate"] = DROP_PATH_RATE
    elif config.drop_path_rate:
        options["drop_path_rate"] = config.drop_path_rate
    options |= arguments
    try:
        model, granted = create_model_with(config.model, wishes, **options)
    except (TypeError, ValueError, AssertionError) as error:
        given = ", ".join(f"{name} {value}" for name, value in {**options, "img_size": size}.items())
        raise UserError(f"cannot create {config.model} with {given}: {error}") from error
    _try(model, config.model, arguments.get("in_chans", 3), size)
    notes = load_initial_weights(model, config.checkpoint) if config.checkpoint is not None and not resumed else []
    checkpoint_gradients(model, config)
    return model, granted, notes


def _try(model: nn.Module, name: str, channels: int, size: int) -> None:
    """Run the model on one image, since many networks reject an unsupported size only in the forward pass."""
    with wrong_size_as_user_error(name, size, size, "--img-size"), torch.no_grad():
        check_sides([size])
        model.eval()(torch.zeros(1, channels, size, size))
    model.train()
