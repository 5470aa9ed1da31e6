"""The plans for training a detector and a segmenter."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from torch import nn

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.loading.channel_statistics import measure_channels
from transxnet.data.loading.data_modules import DetectionData, SegmentationData
from transxnet.data.loading.dense_transforms import (
    MEAN_COLOUR,
    AlignedResize,
    detection_training,
    evaluation_scale,
    segmentation_training,
)
from transxnet.data.open_data import DataSource
from transxnet.data.tiling import Tiling, tile_dict
from transxnet.data.training_tiles import cut_label_maps, cut_objects
from transxnet.heads import create_detector, create_segmenter
from transxnet.heads.pyramid import NoStochasticDepth
from transxnet.heads.semantic_fpn import SIZE_DIVISOR
from transxnet.runs.task_configs import DetectConfig, SegmentConfig
from transxnet.runs.training_data import open_run_data
from transxnet.training.defaults import DefaultsResolver
from transxnet.training.detector import Detector
from transxnet.training.init_weights import initial_weight_arguments
from transxnet.training.plan import DROP_PATH_RATE, Plan, checkpoint_gradients
from transxnet.training.segmenter import Segmenter
from transxnet.utils.errors import UserError

MIN_SIZE, MAX_SIZE, CROP = 800, 1333, 512
"""Published training sizes in pixels: shorter and longer side of an image on COCO, and the crop on ADE20K."""

_NORM = "backbone.fpn.layer_blocks.0.1."
"""Prefix of tensor names in our detectors with ``head_norm``."""

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class DetectPlan(Plan):
    """Plan for training a detector."""

    config: DetectConfig
    source: DataSource[DetectionSet]

    def data_module(self) -> DetectionData:
        """Create the data loaders."""
        config, source = self.config, self.source
        assert isinstance(config.batch_size, int) and config.workers is not None and config.hflip is not None
        return DetectionData(
            source.train_items,
            source.val,
            detection_training(hflip=config.hflip, vflip=config.vflip, photometric=bool(config.photometric)),
            config.batch_size,
            config.workers,
            config.seed,
            masks=config.head == "maskrcnn",
            group_by_aspect=config.group_by_aspect,
        )

    def training_module(self) -> Detector:
        """Create the Lightning module."""
        return Detector(self.model, self.config)  # type: ignore[arg-type]

    def preprocessing(self) -> dict[str, Any]:
        """Return the tiles, if any: detectors resize and normalize their input themselves."""
        return tile_dict(self.config.tiling)

    def description(self) -> dict[str, Any]:
        """Return the description with the ids of the classes in the annotation file."""
        return super().description() | {"category_ids": list(self.source.train.category_ids)}


@dataclass(frozen=True)
class SegmentPlan(Plan):
    """Plan for training a segmenter."""

    config: SegmentConfig
    source: DataSource[SegmentationSet]

    def data_module(self) -> SegmentationData:
        """Create the data loaders."""
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
            fill=self.model_args.get("mean", MEAN_COLOUR),
        )
        return SegmentationData(
            self.source.train_items,
            self.source.val,
            train_transform,
            None if config.tile else AlignedResize(evaluation_scale(config.crop)),
            config.batch_size,
            config.workers,
            config.seed,
        )

    def training_module(self) -> Segmenter:
        """Create the Lightning module."""
        return Segmenter(self.model, self.config)  # type: ignore[arg-type]

    def preprocessing(self) -> dict[str, Any]:
        """Return the longer and the shorter side that images or tiles are resized to fit, and the tiles, if any."""
        assert self.config.crop is not None
        return {"scale": list(evaluation_scale(self.config.crop)), **tile_dict(self.config.tiling)}


def plan_detect(
    defaults: DefaultsResolver[DetectConfig], console: Console, stored_split: Path | None, resumed: bool
) -> DetectPlan:
    """Plan the training of a detector; see :func:`~transxnet.training.make_plan.make_plan`."""
    config = defaults.config
    source: DataSource[DetectionSet] = open_run_data(config, console, stored_split)
    notes = list(source.notes)
    train = source.train
    if config.skip_empty:
        train = train.with_objects()
        notes.append(f"{len(source.train) - len(train):,} training images without objects are skipped")
        source = _with_train(source, train)
    if config.tiling is not None:
        tiles = cut_objects(source.train, config.tiling)
        source = replace(source, tiles=tiles.with_objects() if config.skip_empty else tiles)
        notes.append(_describe_tiles(source, config.tiling))
    if not any(len(labels) for labels in source.val.own_labels):
        notes.append("the validation images have no objects: there is no AP, and the last epoch is saved")
    why = "recommended for this sample" if source.img_size else "as published for COCO"
    why = why if config.tile is None else "side of the tiles"
    short = defaults.resolve("min_size", config.tile or source.img_size or MIN_SIZE, why)
    defaults.resolve("max_size", round(short * MAX_SIZE / MIN_SIZE), "1333/800 of min_size, as published for COCO")
    weights = initial_weight_arguments(config, resumed)
    if config.checkpoint is not None or config.pretrained:
        normed = any(name.startswith(_NORM) for name in weights.get("checkpoint", ()))
        defaults.resolve("head_norm", normed, "as in the checkpoint" if normed else "as published for COCO")
    else:
        defaults.resolve("head_norm", True, "recommended for training from scratch")
    normalization = _normalization(defaults, source, notes)
    defaults.resolve("photometric", False, "as published for COCO")
    defaults.resolve("hflip", source.hflip, "default" if source.hflip else "this sample must not be mirrored")

    def build(rate: float) -> nn.Module:
        return create_detector(
            config.head,
            config.model,
            len(source.class_names),
            drop_path_rate=rate,
            min_size=defaults.config.min_size or 0,
            max_size=defaults.config.max_size or 0,
            head_norm=bool(defaults.config.head_norm),
            box_batch_size_per_image=config.box_batch_size_per_image,
            **normalization,
            **weights,
        )

    model = _with_stochastic_depth(build, defaults)
    checkpoint_gradients(model.backbone.body, config)  # type: ignore[union-attr, arg-type]
    args = {name: getattr(defaults.config, name) for name in ("head", "min_size", "max_size", "head_norm")}
    args |= normalization
    return DetectPlan(defaults.config, defaults.hardware, source, model, args, defaults.choices, notes)


def plan_segment(
    defaults: DefaultsResolver[SegmentConfig], console: Console, stored_split: Path | None, resumed: bool
) -> SegmentPlan:
    """Plan the training of a segmenter; see :func:`~transxnet.training.make_plan.make_plan`."""
    config = defaults.config
    source: DataSource[SegmentationSet] = open_run_data(config, console, stored_split)
    notes = list(source.notes)
    why = "recommended for this sample" if source.img_size else "as published for ADE20K"
    crop = source.img_size or CROP
    if config.tiling is not None:
        source = replace(source, tiles=cut_label_maps(source.train, config.tiling))
        notes.append(_describe_tiles(source, config.tiling))
        crop, why = -(-config.tiling.size // SIZE_DIVISOR) * SIZE_DIVISOR, "side of the tiles, rounded up"
    normalization = _normalization(defaults, source, notes)
    defaults.resolve("crop", crop, why)
    defaults.resolve("photometric", True, "as published for ADE20K")
    defaults.resolve("hflip", source.hflip, "default" if source.hflip else "this sample must not be mirrored")

    weights = initial_weight_arguments(config, resumed)

    def build(rate: float) -> nn.Module:
        return create_segmenter(config.model, len(source.class_names), drop_path_rate=rate, **normalization, **weights)

    model = _with_stochastic_depth(build, defaults)
    checkpoint_gradients(model.backbone.body, config)  # type: ignore[union-attr, arg-type]
    return SegmentPlan(defaults.config, defaults.hardware, source, model, normalization, defaults.choices, notes)


def _normalization(defaults: DefaultsResolver[Any], source: DataSource[Any], notes: list[str]) -> dict[str, Any]:
    """Return the mean and std of the channels as arguments of a model, none for RGB, and add a note for the user."""
    if defaults.config.channels is None:
        return {}
    measured = measure_channels(source.train)
    notes.append(measured.describe())
    defaults.resolve("photometric", False, "changes the colors of RGB images")
    return {"mean": list(measured.mean), "std": list(measured.std)}


def _describe_tiles(source: DataSource[Any], tiling: Tiling) -> str:
    count = f"{len(source.train_items):,} training tiles of {tiling.size} pixels"
    return f"{count}; validation images are predicted tile by tile"


def _with_train(source: DataSource[DetectionSet], train: DetectionSet) -> DataSource[DetectionSet]:
    if not len(train):
        raise UserError("no training image contains an object. Check the annotations, or remove --skip-empty.")
    return replace(source, train=train)


def _with_stochastic_depth(build: Callable[[float], M], defaults: DefaultsResolver[Any]) -> M:
    """Build the model with the given stochastic depth rate, or with the default if it supports stochastic depth."""
    given = defaults.config.drop_path_rate
    if given is not None:
        return build(given)
    try:
        model = build(DROP_PATH_RATE)
    except NoStochasticDepth:
        defaults.resolve("drop_path_rate", 0.0, "the model does not support stochastic depth")
        return build(0.0)
    defaults.resolve("drop_path_rate", DROP_PATH_RATE, "default")
    return model
