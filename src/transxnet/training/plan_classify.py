"""What it takes to train a classifier."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from transxnet.data.module import ClassificationData
from transxnet.data.sources import Source, without_unreadable
from transxnet.data.transforms import Preprocessing, check_sides
from transxnet.models.create import create_model_with, default_img_size, wrong_size_as_user_error
from transxnet.models.model_spec import parse_model_name
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.runs.training_data import open_data
from transxnet.training.batch_size import largest_batch
from transxnet.training.classifier import Classifier
from transxnet.training.defaults import Choices
from transxnet.training.init_weights import start_from
from transxnet.training.plan import DROP_PATH_RATE, Plan, checkpoint_gradients
from transxnet.utils.errors import UserError
from transxnet.utils.progress import progress_bar


@dataclass(frozen=True)
class ClassifyPlan(Plan):
    """A classifier's training.

    Attributes:
        transforms: of images.
    """

    config: ClassifyConfig
    source: Source
    transforms: Preprocessing

    @property
    def architecture(self) -> str:
        """The model's name alone."""
        return parse_model_name(self.config.model).architecture

    def batches(self) -> ClassificationData:
        """The images as the trainer takes them.

        Raises:
            UserError: an augmentation policy that timm does not know.
        """
        config = self.config
        assert isinstance(config.batch_size, int) and config.workers is not None and config.hflip is not None
        try:
            train_transform = self.transforms.training_transform(
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
        transform = self.transforms.transform()
        return ClassificationData(
            self.source, train_transform, transform, config.batch_size, config.workers, config.seed
        )

    def training(self) -> Classifier:
        """The classifier as the trainer takes it."""
        return Classifier(self.model, len(self.source.class_names), self.config)

    def preprocessing(self) -> dict[str, Any]:
        """Resizing, cropping and normalisation."""
        return self.transforms.to_dict()


def plan_classify(config: ClassifyConfig, console: Console, stored_split: Path | None, resumed: bool) -> ClassifyPlan:
    """The plan of a classifier's training; see :func:`~transxnet.training.plan.make_plan`."""
    source, notes = _readable_data(config, stored_split, console)
    model, granted, about_weights = _build(config, source, resumed)
    choices = Choices(config)
    rate = granted.pop("drop_path_rate", 0.0)
    choices.choose("drop_path_rate", rate, "the default" if rate else "the model has no stochastic depth")
    try:
        transforms = Preprocessing.of_model(model, granted.get("img_size") or _size(config, source), config.crop_pct)
    except ValueError as error:
        raise UserError(f"{error} Give another --crop_pct.") from error
    suits = "suits the sample" if source.img_size else "what the model was designed for"
    choices.choose("img_size", transforms.img_size, suits)
    choices.choose("crop_pct", transforms.crop_pct, "the model's own")
    choices.choose("hflip", source.hflip, "the default" if source.hflip else "the sample must not be mirrored")
    args = parse_model_name(config.model).options | granted

    def plan(config: ClassifyConfig) -> ClassifyPlan:
        return ClassifyPlan(config, source, model, args, choices.said, notes + about_weights, transforms)

    choices.choose_common(len(source.train), lambda config, *sizes: largest_batch(plan(config), *sizes))
    return plan(choices.config)


def _readable_data(config: ClassifyConfig, stored_split: Path | None, console: Console) -> tuple[Source, list[str]]:
    source = open_data(config, stored_split)
    total = len(source.train) + len(source.val)
    with progress_bar(console, "looking at the images", total) as advance:
        (train, val), unreadable = without_unreadable(source.train, source.val, progress=advance)
    notes = source.notes + unreadable
    return replace(source, train=train, val=val, notes=notes), notes


def _build(config: ClassifyConfig, source: Source, resumed: bool) -> tuple[nn.Module, dict[str, Any], list[str]]:
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
    checkpoint_gradients(model, config)
    return model, granted, notes


def _try(model: nn.Module, name: str, size: int) -> None:
    """Run one image through, since many networks only then say that they do not take its size."""
    with wrong_size_as_user_error(name, size, size, "--img_size"), torch.no_grad():
        check_sides([size])
        model.eval()(torch.zeros(1, 3, size, size))
    model.train()


def _size(config: ClassifyConfig, source: Source) -> int:
    return config.img_size or source.img_size or default_img_size(config.model)
