"""The options of each task; those of pretraining are in their own module."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from transxnet.data.tiling import MAX_OVERLAP, MIN_TILE, OVERLAP, Tiling
from transxnet.runs.config import COUNT, FACTOR, POSITIVE, RATE, SHARE, Rule, TrainConfig
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.utils.errors import UserError, check_one_of
from transxnet.utils.option_names import as_option, nearest_option

LOSSES = {
    "classes": ("cross_entropy", "focal", "bce", "asymmetric"),
    "multilabel": ("bce", "focal", "asymmetric"),
    "regression": ("smooth_l1", "mse"),
}
"""The losses for each kind of targets, the default first."""

SEGMENT_LOSSES = ("cross_entropy", "dice", "focal_dice")
"""The losses of segmenters."""


TILE_RULES: dict[str, Rule] = {
    "tile": (lambda value: value >= MIN_TILE, f"must be at least {MIN_TILE} pixels"),
    "overlap": (lambda value: 0 <= value <= MAX_OVERLAP, f"must be 0 to {MAX_OVERLAP:g}"),
}
"""The rules of the options of tiles."""


class TileOptions:
    """The options of tiles of a detector or segmenter."""

    tile: int | None
    overlap: float

    @property
    def tiling(self) -> Tiling | None:
        """The tiles that images are cut into, or None."""
        return None if self.tile is None else Tiling(self.tile, self.overlap)


@dataclass(frozen=True)
class ClassifyConfig(TrainConfig):
    """Options for training a classifier; see :class:`TrainConfig` for the others.

    Args:
        img_size: side of the input in pixels; by default that of the sample or of the model.
        crop_pct: fraction of the resized image that the center crop keeps in evaluation; by default the model's own.
        train_split: split of a timm reader to train on.
        val_split: split of a timm reader to validate on.
        num_classes: number of classes, for timm readers that do not report it.
        path_column: column of a label table with the images' paths; by default recognized by name, as are the others.
        label_column: column with the labels, or several, separated by commas, with one class each.
        split_column: column with the set of each image, train, val or test; none for no column.
        group_column: column with groups, such as patients, that are not split into training and validation set; none
            for no column.
        weight_column: column with the confidence in each label; none for no column.
        image_folder: folder that the paths in a label table are relative to; by default that of the table, or images/
            in it.
        targets: classes, one for each image; multilabel, any number of labels for each; or regression, a value for
            each; by default those of the data.
        positive: of two classes, the one that AUPRC, sensitivity, specificity and the threshold refer to; by default
            the less frequent one.
        loss: cross_entropy, focal, bce or asymmetric for classes; bce, focal or asymmetric for multilabel; smooth_l1 or
            mse, of standardized values, for regression; cross_entropy, dice or focal_dice for segmenters; by default
            the first of these.
        class_weights: weights of the classes in the loss: balanced, for equal sums of all classes; or a CSV or JSON
            file with a weight for each class; by default all are equal.
        sampler: draw training images with replacement: balanced, all classes equally often; or sqrt, in proportion to
            the square root of their number of images; by default each image once in an epoch.
        weighted_loss: weigh images in the loss by their confidence, if the data has it; else only in the metrics.
        drop_rate: dropout rate before the classifier.
        smoothing: label smoothing, of classes and labels.
        mixup: alpha of mixup, for classes.
        cutmix: alpha of cutmix, for classes.
        min_scale: smallest fraction of the image area that a training crop keeps.
        color_jitter: strength of random brightness, contrast and saturation.
        auto_augment: timm's policy, such as rand-m9-mstd0.5-inc1, instead of color jitter; by default none.
        random_erasing: probability of erasing a random rectangle.
        teacher: run folder or model name of a classifier of the same classes, whose logits are imitated (knowledge
            distillation); its images are those of the training, resized to its input size.
        teacher_weight: weight of the teacher's loss, from 0 to 1; the loss of the labels has the rest.
        teacher_temperature: divisor of the logits of both before the softmax; higher values weigh unlikely classes
            more.

    Raises:
        UserError: a value has the wrong type or is out of range.
    """

    task: ClassVar[str] = "classify"
    OWN: ClassVar[tuple[str, ...]] = (
        "img_size", "crop_pct", "train_split", "val_split", "num_classes", "path_column", "label_column",
        "split_column", "group_column", "weight_column", "image_folder", "targets", "positive", "loss",
        "class_weights", "sampler", "weighted_loss", "drop_rate", "smoothing", "mixup", "cutmix", "min_scale",
        "color_jitter", "auto_augment", "random_erasing", "teacher", "teacher_weight", "teacher_temperature",
    )  # fmt: skip
    RULES: ClassVar[dict[str, Rule]] = {
        **TrainConfig.RULES,
        "num_classes": COUNT,
        "img_size": (lambda value: value >= 32, "must be at least 32 pixels"),
        **dict.fromkeys(("smoothing", "random_erasing", "teacher_weight"), SHARE),
        "teacher_temperature": (lambda value: value > 0, "must be greater than 0"),
        "drop_rate": RATE,
        **dict.fromkeys(("crop_pct", "min_scale"), FACTOR),
        **dict.fromkeys(("mixup", "cutmix", "color_jitter"), POSITIVE),
    }

    img_size: int | None = None
    crop_pct: float | None = None
    train_split: str = "train"
    val_split: str = "validation"
    num_classes: int | None = None
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    image_folder: str | None = None
    targets: Literal["classes", "multilabel", "regression"] | None = None
    positive: str | None = None
    loss: str | None = None
    class_weights: str | None = None
    sampler: Literal["balanced", "sqrt"] | None = None
    weighted_loss: bool = True
    drop_rate: float = 0.0
    smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    min_scale: float = 0.35
    color_jitter: float = 0.2
    auto_augment: str | None = None
    random_erasing: float = 0.0
    teacher: str | None = None
    teacher_weight: float = 0.5
    teacher_temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.mixup or self.cutmix) and isinstance(self.batch_size, int) and self.batch_size % 2:
            raise UserError(f"batch_size must be even for mixup and cutmix, got {self.batch_size}.")
        _refuse_with_channels(self, "auto_augment")
        if self.targets is None:
            return
        if self.loss not in (None, *LOSSES[self.targets]):
            accepted = " or ".join(LOSSES[self.targets])
            raise UserError(f"loss must be {accepted} for targets {self.targets}, got {self.loss}.")
        if (self.mixup or self.cutmix) and self.targets != "classes":
            raise UserError(
                f"mixup and cutmix are for classes, got targets {self.targets}. Use --mixup 0 and --cutmix 0."
            )
        for name in ("class_weights", "sampler", "teacher"):
            if getattr(self, name) is not None and self.targets != "classes":
                raise UserError(f"{name} is for classes, got targets {self.targets}. Remove {as_option(name)}.")

    @property
    def predicted(self) -> str:
        """The kind of targets."""
        return self.targets or "classes"


@dataclass(frozen=True)
class DetectConfig(TileOptions, TrainConfig):
    """Options for training a detector; see :class:`TrainConfig` for the others.

    Args:
        head: retinanet predicts boxes, maskrcnn boxes and masks.
        min_size: shorter side of the resized images in pixels; by default that of the sample, or 800.
        max_size: maximum longer side of the resized images in pixels; by default 1333/800 of min_size.
        head_norm: use GroupNorm in the feature pyramid and the heads; by default only when training from scratch.
        box_batch_size_per_image: number of proposals per image to train the heads of maskrcnn on.
        photometric: randomly change brightness, contrast, saturation and hue; by default only for segmentation.
        group_by_aspect: make batches of either landscape or portrait images, which need less padding.
        skip_empty: skip training images without objects, as in the published COCO training.
        tile: side in pixels of the tiles that large images are cut into, for training and prediction; by default no
            tiles.
        overlap: fraction of the side that neighboring tiles share.

    Raises:
        UserError: a value has the wrong type or is out of range.
    """

    task: ClassVar[str] = "detect"
    OWN: ClassVar[tuple[str, ...]] = (
        "head", "min_size", "max_size", "head_norm", "box_batch_size_per_image", "photometric",
        "group_by_aspect", "skip_empty", "tile", "overlap",
    )  # fmt: skip
    RULES: ClassVar[dict[str, Rule]] = {
        **TrainConfig.RULES,
        **TILE_RULES,
        "box_batch_size_per_image": COUNT,
        **dict.fromkeys(("min_size", "max_size"), (lambda value: value >= 32, "must be at least 32 pixels")),
    }

    head: Literal["retinanet", "maskrcnn"] = "retinanet"
    min_size: int | None = None
    max_size: int | None = None
    head_norm: bool | None = None
    box_batch_size_per_image: int = 512
    photometric: bool | None = None
    group_by_aspect: bool = True
    skip_empty: bool = False
    tile: int | None = None
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_with_channels(self, "photometric")
        if self.min_size is not None and self.max_size is not None and self.max_size < self.min_size:
            raise UserError(f"max_size must be at least min_size ({self.min_size}), got {self.max_size}.")


@dataclass(frozen=True)
class SegmentConfig(TileOptions, TrainConfig):
    """Options for training a segmenter; see :class:`TrainConfig` for the others.

    Args:
        crop: side of the training crop in pixels; in evaluation, images are resized to fit within 4 x 1 times this;
            by default that of the sample, or 512.
        min_ratio: smallest random scale of the training images.
        max_ratio: largest random scale of the training images.
        photometric: randomly change brightness, contrast, saturation and hue; by default only for segmentation.
        cat_max_ratio: maximum fraction of a crop's labeled pixels in one class; up to ten other crops are tried.
        zero_is_ignored: treat 0 in the label maps as "ignore", with classes starting at 1; by default it depends on the
            layout of the folder.
        loss: cross_entropy; dice, for small or rare classes; or focal_dice, the sum of focal loss and Dice loss.
        tile: side in pixels of the tiles that large images are cut into, for training and prediction; by default no
            tiles.
        overlap: fraction of the side that neighboring tiles share.

    Raises:
        UserError: a value has the wrong type or is out of range.
    """

    task: ClassVar[str] = "segment"
    OWN: ClassVar[tuple[str, ...]] = (
        "crop", "min_ratio", "max_ratio", "photometric", "cat_max_ratio",
        "zero_is_ignored", "loss", "tile", "overlap",
    )  # fmt: skip
    RULES: ClassVar[dict[str, Rule]] = {
        **TrainConfig.RULES,
        **TILE_RULES,
        "crop": (lambda value: value >= 32 and value % 32 == 0, "must be a multiple of 32 pixels"),
        "cat_max_ratio": FACTOR,
    }

    crop: int | None = None
    min_ratio: float = 0.5
    max_ratio: float = 2.0
    photometric: bool | None = None
    cat_max_ratio: float = 0.75
    zero_is_ignored: bool | None = None
    loss: str = "cross_entropy"
    tile: int | None = None
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_with_channels(self, "photometric")
        if not 0 < self.min_ratio <= self.max_ratio:
            raise UserError(
                f"min_ratio must be greater than 0 and at most max_ratio ({self.max_ratio:g}), got {self.min_ratio:g}."
            )
        check_one_of(SEGMENT_LOSSES, loss=self.loss)


CONFIGS: dict[str, type[TrainConfig]] = {
    config.task: config  # type: ignore[misc]
    for config in (ClassifyConfig, DetectConfig, SegmentConfig, PretrainConfig)
}
"""The configuration class of each task."""


_SIZES = {"classify": "img_size", "detect": "min_size", "segment": "crop", "pretrain": "img_size"}
_RENAMED = {"accelerator": "device"}
"""Former names of options, which recipes and run folders may contain."""


def _refuse_with_channels(config: TrainConfig, name: str) -> None:
    """Raise UserError if an option that changes colors is set for other images than RGB."""
    if config.channels is not None and getattr(config, name):
        raise UserError(
            f"{name} changes the colors of RGB images, got channels {config.channels}. Remove {as_option(name)}."
        )


def tasks_with(option: str) -> list[str]:
    """List the tasks that have this option."""
    return [task for task, config in CONFIGS.items() if option in {field.name for field in fields(config)}]


def config_from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Create the configuration of a task.

    Args:
        values: options by name. Without ``task``, the task is the only one that has all of them, or the one that the
            data is for.

    Raises:
        UserError: a task or option is unknown, an option belongs to another task, a value is out of range, or the task
            must be recognized from data that does not exist.
    """
    values = {_RENAMED.get(name, name): value for name, value in values.items()}
    task = values.pop("task", None)
    only = only_task_with(values)
    if task is None:
        task = only
        if task in (None, "classify"):  # any folder of folders could be class folders, also one with annotations
            from transxnet.data.recognize import recognize

            task = recognize(str(values["data"])).task
    check_one_of(tuple(CONFIGS), task=task)
    for name in values:
        if task not in tasks_with(str(name)):
            owners, option = " and ".join(map(repr, tasks_with(str(name)))), as_option(str(name))
            step = f"Use {as_option(_SIZES[task])}" if name in _SIZES.values() else f"Remove {option}"
            raise UserError(f"{option} is for task {owners}, got task {task!r}. {step}.")
    return CONFIGS[task](**values)


def only_task_with(values: Mapping[str, Any]) -> str | None:
    """Return the only task that has all of these options, or None.

    Raises:
        UserError: no task has one of the options.
    """
    common = set(CONFIGS)
    for name in values:
        owners = tasks_with(str(name))
        if not owners:
            known = {field.name: None for config in CONFIGS.values() for field in fields(config)}
            raise UserError(f"unknown option {name!r}.{nearest_option(str(name), known)} See: transxnet train --help")
        common &= set(owners)
    return next(iter(common)) if len(common) == 1 else None
