"""Settling what is to be trained on what, before anything is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from timm.optim import list_optimizers
from torch import nn

from transxnet.data.module import ClassificationData
from transxnet.data.sources import Source, open_source, without_unreadable
from transxnet.data.transforms import Preprocessing
from transxnet.errors import UserError, nearest
from transxnet.models.create import check_name, create_model_with, own_size
from transxnet.tasks.choices import resolve
from transxnet.tasks.config import TrainConfig
from transxnet.tasks.progress import progress_bar
from transxnet.tasks.weights import start_from

DROP_PATH_RATE = 0.1
"""Stochastic depth where the user does not say, for the models that have it."""


@dataclass(frozen=True)
class Plan:
    """What is to be trained on what, all options settled.

    Attributes:
        config: complete.
        source: the images.
        model: with its first weights.
        model_args: what its constructor needs beyond the number of classes to build it again.
        preprocessing: of held-out images.
        choices: a sentence for each option that was chosen for the user.
        notes: sentences that the user should read.
    """

    config: TrainConfig
    source: Source
    model: nn.Module
    model_args: dict[str, Any]
    preprocessing: Preprocessing
    choices: list[str]
    notes: list[str]

    def batches(self) -> ClassificationData:
        """The images as the trainer takes them.

        Raises:
            UserError: an augmentation policy that timm does not know.
        """
        config = self.config
        assert config.batch_size is not None and config.workers is not None
        try:
            train_transform = self.preprocessing.training_transform(
                min_scale=config.min_scale,
                hflip=config.hflip,
                vflip=config.vflip,
                color_jitter=config.color_jitter,
                auto_augment=config.auto_augment,
                random_erasing=config.random_erasing,
            )
        except Exception as error:  # timm's parser of policies raises errors of many kinds
            raise UserError(
                f"timm does not know the policy auto_augment {config.auto_augment!r}: {error or type(error).__name__}. "
                "Accepted: such as rand-m9-mstd0.5-inc1, augmix-m5-w4-d2, original."
            ) from error
        transform = self.preprocessing.transform()
        return ClassificationData(
            self.source, train_transform, transform, config.batch_size, config.workers, config.seed
        )


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
    if not resumed:
        _check_names(config)  # before the data is read, which may take long
    seed_everything(config.seed, verbose=False)
    source, notes = _readable_data(config, stored_split, console)
    model, granted, about_weights = _build(config, source, resumed)
    notes += about_weights
    choices = []
    if config.drop_path_rate is None:
        rate = granted.pop("drop_path_rate", 0.0)
        config = config.replace(drop_path_rate=rate)
        choices.append(f"drop_path_rate {rate:g}: " + ("the default" if rate else "the model has no stochastic depth"))
    preprocessing = Preprocessing.of_model(model, granted.get("img_size") or _size(config, source), config.crop_pct)
    config, more = resolve(config, source, preprocessing)
    return Plan(config, source, model, granted, preprocessing, choices + more, notes)


def _check_names(config: TrainConfig) -> None:
    check_name(config.model)
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


def open_data(config: TrainConfig, stored_split: Path | None) -> Source:
    """The images that a training's options name, split as a stored split says or anew."""
    return open_source(
        config.data,
        val_fraction=config.val_fraction,
        seed=config.seed,
        stored_split=stored_split,
        train_split=config.train_split,
        val_split=config.val_split,
        num_classes=config.num_classes,
    )


def _readable_data(config: TrainConfig, stored_split: Path | None, console: Console) -> tuple[Source, list[str]]:
    source = open_data(config, stored_split)
    total = len(source.train) + len(source.val)
    with progress_bar(console, "looking at the images", total) as advance:
        (train, val), unreadable = without_unreadable(source.train, source.val, progress=advance)
    notes = source.notes + unreadable
    return Source(train, val, source.split_made, source.img_size, notes), notes


def _build(config: TrainConfig, source: Source, resumed: bool) -> tuple[nn.Module, dict[str, Any], list[str]]:
    pretrained = config.pretrained and not resumed
    options: dict[str, Any] = dict(num_classes=len(source.class_names), pretrained=pretrained)
    rates = {"drop_path_rate": config.drop_path_rate, "drop_rate": config.drop_rate}
    options |= {name: rate for name, rate in rates.items() if rate}
    size = _size(config, source)
    wishes: dict[str, Any] = {"img_size": size}
    if config.drop_path_rate is None:
        wishes["drop_path_rate"] = DROP_PATH_RATE
    try:
        model, granted = create_model_with(config.model, wishes, **options)
    except (TypeError, ValueError, AssertionError) as error:
        given = ", ".join(f"{name} {value}" for name, value in {**options, "img_size": size}.items())
        raise UserError(f"{config.model} can't be made with {given}: {error}") from error
    _try(model, config.model, size)
    notes = start_from(model, config.checkpoint) if config.checkpoint is not None and not resumed else []
    if config.grad_checkpointing:
        try:
            model.set_grad_checkpointing()  # type: ignore[operator]
        except (AssertionError, AttributeError) as error:
            raise UserError(f"{config.model} has no gradient checkpointing. Leave out --grad_checkpointing.") from error
    return model, granted, notes


def _try(model: nn.Module, name: str, size: int) -> None:
    """Run one image through, since many networks only then say that they do not take its size."""
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(f"{name} does not take images of {size}x{size}: {error} Give another --img_size.") from error
    model.train()


def _size(config: TrainConfig, source: Source) -> int:
    return config.img_size or source.img_size or own_size(config.model)
