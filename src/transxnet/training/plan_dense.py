"""What it takes to train a detector or a segmenter."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from torch import nn

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.loading.data_modules import DetectionData, SegmentationData
from transxnet.data.loading.dense_transforms import (
    AlignedResize,
    detection_training,
    evaluation_scale,
    segmentation_training,
)
from transxnet.data.open_data import DataSource
from transxnet.heads import create_detector, create_segmenter
from transxnet.heads.pyramid import NoStochasticDepth
from transxnet.runs.task_configs import DetectConfig, SegmentConfig
from transxnet.runs.training_data import open_run_data
from transxnet.training.batch_size import largest_batch
from transxnet.training.defaults import Choices
from transxnet.training.detector import Detector
from transxnet.training.init_weights import dense_start
from transxnet.training.plan import DROP_PATH_RATE, Plan, checkpoint_gradients
from transxnet.training.segmenter import Segmenter
from transxnet.utils.errors import UserError

MIN_SIZE, MAX_SIZE, CROP = 800, 1333, 512
"""Of the published trainings: an image's shorter and longer side on COCO, and the crop on ADE20K, in pixels."""

_NORM = "backbone.fpn.layer_blocks.0.1."
"""What the tensors of a detector of ours with norms in its head begin with."""

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class DetectPlan(Plan):
    """A detector's training."""

    config: DetectConfig
    source: DataSource[DetectionSet]

    def batches(self) -> DetectionData:
        """The images as the trainer takes them."""
        config, source = self.config, self.source
        assert isinstance(config.batch_size, int) and config.workers is not None and config.hflip is not None
        return DetectionData(
            source.train,
            source.val,
            detection_training(hflip=config.hflip, vflip=config.vflip, photometric=bool(config.photometric)),
            config.batch_size,
            config.workers,
            config.seed,
            masks=config.head == "maskrcnn",
            group_by_aspect=config.group_by_aspect,
        )

    def training(self) -> Detector:
        """The detector as the trainer takes it."""
        return Detector(self.model, self.config)  # type: ignore[arg-type]

    def preprocessing(self) -> dict[str, Any]:
        """Nothing: detectors resize and normalise what they are given."""
        return {}


@dataclass(frozen=True)
class SegmentPlan(Plan):
    """A segmenter's training."""

    config: SegmentConfig
    source: DataSource[SegmentationSet]

    def batches(self) -> SegmentationData:
        """The photographs as the trainer takes them."""
        config = self.config
        assert isinstance(config.batch_size, int) and config.workers is not None
        assert config.crop is not None and config.hflip is not None and config.photometric is not None
        train_transform = segmentation_training(
            crop=config.crop,
            ratio=(config.min_ratio, config.max_ratio),
            hflip=config.hflip,
            vflip=config.vflip,
            photometric=config.photometric,
            cat_max_ratio=config.cat_max_ratio,
        )
        return SegmentationData(
            self.source.train,
            self.source.val,
            train_transform,
            AlignedResize(evaluation_scale(config.crop)),
            config.batch_size,
            config.workers,
            config.seed,
        )

    def training(self) -> Segmenter:
        """The segmenter as the trainer takes it."""
        return Segmenter(self.model, self.config)  # type: ignore[arg-type]

    def preprocessing(self) -> dict[str, Any]:
        """The longer and the shorter side that photographs are resized to fit."""
        assert self.config.crop is not None
        return {"scale": list(evaluation_scale(self.config.crop))}


def plan_detect(config: DetectConfig, console: Console, stored_split: Path | None, resumed: bool) -> DetectPlan:
    """The plan of a detector's training; see :func:`~transxnet.training.plan.make_plan`."""
    source: DataSource[DetectionSet] = open_run_data(config, console, stored_split)
    notes = list(source.notes)
    train = source.train
    if config.skip_empty:
        train = train.with_objects()
        notes.append(f"{len(source.train) - len(train):,} images without objects are left out of the training")
        source = _with_train(source, train)
    choices = Choices(config)
    suits = "suits the sample" if source.img_size else "as published on COCO"
    short = choices.choose("min_size", source.img_size or MIN_SIZE, suits)
    choices.choose("max_size", round(short * MAX_SIZE / MIN_SIZE), "1333/800 of min_size, as published")
    start = dense_start(config, resumed)
    if config.checkpoint is not None or config.pretrained:
        normed = any(name.startswith(_NORM) for name in start.get("checkpoint", ()))
        choices.choose("head_norm", normed, "as the checkpoint has it" if normed else "as published")
    else:
        choices.choose("head_norm", True, "helps from scratch")
    choices.choose("photometric", False, "as published on COCO")
    choices.choose("hflip", source.hflip, "suits the data" if source.hflip else "the sample must not be mirrored")

    def build(rate: float) -> nn.Module:
        return create_detector(
            config.head,
            config.model,
            len(source.class_names),
            drop_path_rate=rate,
            min_size=choices.config.min_size or 0,
            max_size=choices.config.max_size or 0,
            head_norm=bool(choices.config.head_norm),
            box_batch_size_per_image=config.box_batch_size_per_image,
            **start,
        )

    model = _with_stochastic_depth(build, choices)
    checkpoint_gradients(model.backbone.body, config)  # type: ignore[union-attr, arg-type]
    args = {name: getattr(choices.config, name) for name in ("head", "min_size", "max_size", "head_norm")}

    def plan(config: DetectConfig) -> DetectPlan:
        return DetectPlan(config, source, model, args, choices.said, notes)

    choices.choose_common(len(train), lambda config, *sizes: largest_batch(plan(config), *sizes))
    return plan(choices.config)


def plan_segment(config: SegmentConfig, console: Console, stored_split: Path | None, resumed: bool) -> SegmentPlan:
    """The plan of a segmenter's training; see :func:`~transxnet.training.plan.make_plan`."""
    source: DataSource[SegmentationSet] = open_run_data(config, console, stored_split)
    notes = list(source.notes)
    choices = Choices(config)
    suits = "suits the sample" if source.img_size else "as published on ADE20K"
    choices.choose("crop", source.img_size or CROP, suits)
    choices.choose("photometric", True, "as published on ADE20K")
    choices.choose("hflip", source.hflip, "suits the data" if source.hflip else "the sample must not be mirrored")

    start = dense_start(config, resumed)

    def build(rate: float) -> nn.Module:
        return create_segmenter(config.model, len(source.class_names), drop_path_rate=rate, **start)

    model = _with_stochastic_depth(build, choices)
    checkpoint_gradients(model.backbone.body, config)  # type: ignore[union-attr, arg-type]

    def plan(config: SegmentConfig) -> SegmentPlan:
        return SegmentPlan(config, source, model, {}, choices.said, notes)

    choices.choose_common(len(source.train), lambda config, *sizes: largest_batch(plan(config), *sizes))
    return plan(choices.config)


def _with_train(source: DataSource[DetectionSet], train: DetectionSet) -> DataSource[DetectionSet]:
    if not len(train):
        raise UserError("no training image holds an object. Leave out --skip_empty, or check the annotations.")
    return replace(source, train=train)


def _with_stochastic_depth(build: Callable[[float], M], choices: Choices) -> M:
    """The model with the rate that was asked for, or with the usual one if it has stochastic depth at all."""
    given = choices.config.drop_path_rate
    if given is not None:
        return build(given)
    try:
        model = build(DROP_PATH_RATE)
    except NoStochasticDepth:
        choices.choose("drop_path_rate", 0.0, "the model has no stochastic depth")
        return build(0.0)
    choices.choose("drop_path_rate", DROP_PATH_RATE, "the default")
    return model
