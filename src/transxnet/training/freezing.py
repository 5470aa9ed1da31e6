"""Freeze the backbone or its first stages, for the whole training or its first epochs."""

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from transxnet.utils.errors import UserError

ACCEPTED = "backbone, or stages=N for the stem and the first N stages"


class FrozenPart:
    """The part of a network that is not trained.

    Its weights have no gradient, and its modules are in evaluation mode: BatchNorm uses and keeps its running
    statistics, and dropout and stochastic depth are off.

    Args:
        model: classifier of timm's interface, or a detector or segmenter of this package.
        part: "backbone", or "stages=N" for the stem and the first N stages.
        epochs: number of epochs, from the start of the training; None for all.

    Raises:
        UserError: another part, or a network without such stages.
    """

    def __init__(self, model: nn.Module, part: str, epochs: int | None = None):
        self.epochs = math.inf if epochs is None else epochs
        names = _backbone(model) if part == "backbone" else _first_stages(model, part)
        frozen = set(names)
        self._weights = [weight for name, weight in model.named_parameters() if name in frozen]
        self._modules = [
            module
            for prefix, module in model.named_modules()
            if (own := [f"{prefix}.{name}" if prefix else name for name, _ in module.named_parameters()])
            and frozen.issuperset(own)
        ]

    @property
    def count(self) -> int:
        """Number of frozen weights."""
        return sum(weight.numel() for weight in self._weights)

    def apply(self, epoch: int) -> None:
        """Freeze the part in this epoch, counted from 0, or unfreeze it.

        Modules that are in evaluation mode return to training mode with the model's next call of ``train()``.
        """
        frozen = epoch < self.epochs
        for weight in self._weights:
            weight.requires_grad_(not frozen)
        for module in self._modules:
            module.train(not frozen)


def _backbone(model: nn.Module) -> list[str]:
    """Names of all weights but the classifier's or the head's."""
    names = [name for name, _ in model.named_parameters()]
    if hasattr(model, "backbone"):
        return [name for name in names if name.startswith("backbone.body.")]
    classifier = model.get_classifier()  # type: ignore[operator]
    heads = classifier if isinstance(classifier, Sequence) else [classifier]
    trained = {id(weight) for head in heads for weight in head.parameters()}
    return [name for name, weight in model.named_parameters() if id(weight) not in trained]


def _first_stages(model: nn.Module, part: str) -> list[str]:
    """Names of the weights from the input to the end of stage N; networks register their weights in this order."""
    backbone: Any = getattr(model, "backbone", None)
    prefix, body = ("", model) if backbone is None else ("backbone.body.", backbone.body)
    infos = getattr(body, "feature_info", [])
    infos = infos if isinstance(infos, list) else infos.info
    stages = [info["module"] for info in infos if info["reduction"] >= 4]
    word, _, number = part.partition("=")
    if word != "stages" or not number.isdigit():
        raise UserError(f"freeze must be {ACCEPTED}, got {part!r}.")
    if not 1 <= int(number) <= len(stages):
        raise UserError(f"--freeze {part}: the network has {len(stages)} stages. Accepted: {ACCEPTED}.")
    stage = stages[int(number) - 1]
    names = [name for name, _ in model.named_parameters()]
    of_stage = [
        index
        for index, name in enumerate(names)
        if name.startswith(tuple(f"{prefix}{form}." for form in (stage, stage.replace(".", "_"))))
    ]
    return [name for name in names[: of_stage[-1] + 1] if name.startswith(prefix)]
