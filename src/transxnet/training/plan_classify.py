"""The plan for training a classifier."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import with_channels
from transxnet.data.loading.channel_statistics import measure_channels
from transxnet.data.loading.data_modules import ClassificationData
from transxnet.data.loading.preprocessing import Preprocessing, Transform
from transxnet.data.open_data import DataSource, open_dataset
from transxnet.metrics.binary_curves import choose_positive
from transxnet.metrics.targets import Targets, targets_of
from transxnet.models.create import default_img_size
from transxnet.models.model_spec import parse_model_name
from transxnet.runs.task_configs import LOSSES, ClassifyConfig
from transxnet.runs.training_data import open_run_data
from transxnet.training.build_network import build_network
from transxnet.training.class_balance import check_balance, class_weights, draw_probabilities
from transxnet.training.classifier import Classifier
from transxnet.training.defaults import DefaultsResolver
from transxnet.training.extensions import NO_EXTENSIONS, Extensions
from transxnet.training.objectives import OwnLoss, create_objective
from transxnet.training.plan import Plan
from transxnet.training.teacher import LogitTeacher, load_teacher
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class ClassifyPlan(Plan):
    """Plan for training a classifier.

    Attributes:
        transforms: image preprocessing.
        extensions: loss and transform of the caller.
        teacher: classifier whose logits are imitated, or None.
    """

    config: ClassifyConfig
    source: DataSource
    transforms: Preprocessing
    extensions: Extensions = NO_EXTENSIONS
    teacher: LogitTeacher | None = None

    @property
    def architecture(self) -> str:
        """Model name without tag and options."""
        return parse_model_name(self.config.model).architecture

    def data_module(self) -> ClassificationData:
        """Create the data loaders.

        Raises:
            UserError: timm does not know the augmentation policy.
        """
        config = self.config
        assert isinstance(config.batch_size, int) and config.workers is not None
        transform = self.transforms.transform()
        return ClassificationData(
            self.source.train,
            self.source.val,
            self.extensions.train_transform or self._augmentation(),
            transform,
            config.batch_size,
            config.workers,
            config.seed,
            None if config.sampler is None else draw_probabilities(config.sampler, self.source.train),
        )

    def _augmentation(self) -> Transform:
        config = self.config
        assert config.hflip is not None
        try:
            return self.transforms.training_transform(
                min_scale=config.min_scale,
                hflip=config.hflip,
                vflip=config.vflip,
                color_jitter=config.color_jitter,
                auto_augment=config.auto_augment,
                random_erasing=config.random_erasing,
            )
        except Exception as error:  # timm's parser of policies raises errors of many kinds
            raise UserError(
                f"unknown auto_augment policy {config.auto_augment!r}: {error or type(error).__name__}. "
                "Accepted: timm's policies, such as rand-m9-mstd0.5-inc1, augmix-m5-w4-d2 or original."
            ) from error

    def training_module(self) -> Classifier:
        """Create the Lightning module."""
        config, train, class_names = self.config, self.source.train, self.source.class_names
        factors = None if config.class_weights is None else class_weights(config.class_weights, train)
        objective = create_objective(self.targets, len(class_names), config, factors)
        if self.extensions.loss is not None:
            objective = OwnLoss(objective, self.extensions.loss)
        weights = self._image_weights
        image_weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        return Classifier(self.model, len(class_names), config, objective, image_weights, self.teacher)

    @property
    def targets(self) -> Targets:
        """What the logits mean, with the statistics of the training labels."""
        train = self.source.train
        labels = train.own_labels if isinstance(train, ClassificationSet) else None
        return targets_of(train.targets, self.source.class_names, labels, self._image_weights, self.config.positive)

    @property
    def _image_weights(self) -> np.ndarray | None:
        """(N,) weights of the training images in the loss."""
        train = self.source.train
        return train.own_weights if isinstance(train, ClassificationSet) and self.config.weighted_loss else None

    def description(self) -> dict[str, Any]:
        """Return the description that is stored with the weights; thresholds are chosen later."""
        return {**super().description(), "targets": self.targets.to_dict()}

    def preprocessing(self) -> dict[str, Any]:
        """Return resizing, cropping and normalization as plain data."""
        return self.transforms.to_dict()


def plan_classify(
    defaults: DefaultsResolver[ClassifyConfig],
    console: Console,
    stored_split: Path | None,
    resumed: bool,
    extensions: Extensions = NO_EXTENSIONS,
) -> ClassifyPlan:
    """Plan the training of a classifier; see :func:`~transxnet.training.make_plan.make_plan`."""
    if extensions.dataset is None:
        source: DataSource = open_run_data(defaults.config, console, stored_split)
    else:
        options = {name: getattr(defaults.config, name) for name in ("val_fraction", "train_fraction", "seed", "limit")}
        source = open_dataset(extensions.dataset, stored_split=stored_split, **options)
        with_channels(source.train, defaults.config.channels, source.recognition.data)  # raises: there are no files
    config: ClassifyConfig = defaults.config.replace(targets=source.train.targets)  # type: ignore[assignment]
    defaults.config = config
    check_balance(config, source.train)
    two = source.class_names if config.targets == "classes" else []
    labels = source.train.own_labels if isinstance(source.train, ClassificationSet) else None
    if (positive := choose_positive(two, labels, config.positive)) is not None:
        defaults.resolve("positive", positive, "the less frequent class")
    if extensions.loss is not None and config.targets == "regression":
        raise UserError("loss as a module is for classes and labels, got targets regression. Use --loss smooth_l1.")
    inputs = {} if config.channels is None else {"in_chans": config.channels}
    dropout = {"drop_rate": config.drop_rate} if config.drop_rate else {}
    size = config.img_size or source.img_size or default_img_size(config.model)
    model, granted, about_weights = build_network(config, len(source.class_names), size, resumed, **dropout, **inputs)
    rate = granted.pop("drop_path_rate", 0.0)
    defaults.resolve("drop_path_rate", rate, "default" if rate else "the model does not support stochastic depth")
    try:
        transforms = Preprocessing.of_model(model, granted.get("img_size") or size, config.crop_pct)
    except ValueError as error:
        raise UserError(f"{error} Choose another --crop-pct.") from error
    notes = source.notes + about_weights
    teacher = None
    if config.channels is not None:
        transforms, about_channels = _with_channels(transforms, config, source, extensions)
        defaults.config = defaults.config.replace(color_jitter=0.0)  # type: ignore[assignment]
        notes.append(about_channels)
    if config.teacher is not None:
        teacher = LogitTeacher(load_teacher(config.teacher), transforms, source.class_names)
        notes.append(teacher.note)
    used_for = "default" if extensions.loss is None else "for validation; training uses the given loss"
    defaults.resolve("loss", LOSSES[config.predicted][0], used_for)
    _check_transform(extensions.train_transform, transforms.img_size)
    suits = "recommended for this sample" if source.img_size else "default of the model"
    defaults.resolve("img_size", transforms.img_size, suits)
    defaults.resolve("crop_pct", transforms.crop_pct, "default of the model")
    defaults.resolve("hflip", source.hflip, "default" if source.hflip else "this sample must not be mirrored")
    args = parse_model_name(config.model).options | granted | inputs
    return ClassifyPlan(
        defaults.config,
        defaults.hardware,
        source,
        model,
        args,
        defaults.choices,
        notes,
        transforms,
        extensions,
        teacher,
    )


def _with_channels(
    transforms: Preprocessing, config: ClassifyConfig, source: DataSource, extensions: Extensions
) -> tuple[Preprocessing, str]:
    """Return the preprocessing with the statistics of the training images, and a note for the user."""
    if extensions.train_transform is not None:
        raise UserError("train_transform receives RGB images, got channels. Remove one of them.")
    measured = measure_channels(source.train)
    note = f"{measured.describe()}; color_jitter is not applied"
    return replace(transforms, mean=measured.mean, std=measured.std, channels=config.channels), note


def _check_transform(transform: Transform | None, size: int) -> None:
    """Check that a transform of the caller makes tensors (3, H, W) of images."""
    if transform is None:
        return
    pixels = transform(Image.new("RGB", (size, size)))
    if not isinstance(pixels, Tensor) or pixels.ndim != 3 or len(pixels) != 3 or not pixels.is_floating_point():
        got = f"{pixels.dtype} {tuple(pixels.shape)}" if isinstance(pixels, Tensor) else type(pixels).__name__
        raise UserError(
            f"train_transform must return a float tensor (3, H, W), got {got}. End it with ToTensor and Normalize."
        )
