"""Training options that all tasks share."""

import math
import re
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import yaml

from transxnet.utils.errors import UserError
from transxnet.utils.option_names import option_words

Rule = tuple[Callable[[Any], bool], str]
"""A check of an option's value, and the error message if it fails."""

COUNT: Rule = lambda value: value >= 1, "must be an integer of at least 1"
SHARE: Rule = lambda value: 0 <= value <= 1, "must be between 0 and 1"
RATE: Rule = lambda value: 0 <= value < 1, "must be at least 0 and less than 1"
FACTOR: Rule = lambda value: 0 < value <= 1, "must be greater than 0 and at most 1"
POSITIVE: Rule = lambda value: value >= 0, "must not be negative"


@dataclass(frozen=True)
class TrainConfig:
    """Training options for all tasks. Options left at null are chosen from the data and the hardware, and printed.

    The options of single tasks are in :class:`~transxnet.runs.task_configs.ClassifyConfig`, ``DetectConfig`` and
    ``SegmentConfig``; :func:`~transxnet.runs.recipes.make_config` creates the right one.

    Args:
        data: a folder, a table of images and labels, a built-in sample (elpv, digits, scenes) or a timm reader name
            (hfds/..., wds/..., tfds/...).
        model: any timm model; TransXNet models are transxnet_n (nano, not in the paper), transxnet_t, transxnet_s and
            transxnet_b. Model options may follow the name, as in 'transxnet_t@local_conv=dyconv,dpe=false'.
        out: run folder; by default runs/MODEL-DATA-NUMBER.
        pretrained: start from the published ImageNet weights.
        checkpoint: start from the weights in this file or run folder.
        freeze: part that is not trained: backbone, or stages=N for the stem and the first N stages; its norms keep
            their statistics.
        freeze_epochs: number of first epochs in which the part is frozen; by default all.
        val_fraction: fraction of the images to use for validation if the data has no validation set; 0 trains on all
            images and validates nothing.
        train_fraction: fraction of the training images to train on, drawn with the seed and stratified by class, to
            measure how much labels help; the validation and test set stay.
        group_from: regular expression that finds an image's group, such as the patient, in its path below the data
            folder; groups are not split into training and validation set.
        exclude: table of images not to use, with the column image, such as the fixes.csv of transxnet check, whose rows
            with the action exclude count.
        split_file: CSV file of a split to use, with the columns name and part (train, val or test), such as the
            split.csv of a run folder; images that it does not name are not used.
        channels: number of channels of TIFF, NPY, DICOM or other files, which are read with their stored values and
            normalized by the mean and standard deviation of the training images; by default images are read in RGB.
        limit: use at most this many training and this many validation images, evenly spaced, for a quick test.
        val_every: number of epochs between validations.
        epochs: number of epochs, including warm-up; by default 100, or 50 for detection and segmentation.
        cooldown_epochs: additional epochs at the lowest learning rate.
        patience: stop after this many validations in a row without a better one; by default train all epochs.
        batch_size: images per step and process; by default it depends on the device, and is smaller for few images;
            auto finds the largest that fits into memory.
        accumulate: number of steps to accumulate gradients over before each update.
        opt: optimizer, by its timm name.
        lr: peak learning rate; by default scaled with the number of images per update.
        min_lr: final learning rate.
        milestones: epochs at which the learning rate drops to a tenth, such as 8,11; by default a cosine schedule.
        warmup_lr: initial learning rate of the warm-up.
        warmup_epochs: number of warm-up epochs; by default a tenth of the epochs, at most 5.
        weight_decay: weight decay; biases and norms have none.
        layer_decay: learning rate factor per layer, counted from the output; by default none.
        clip_grad: maximum gradient norm; by default no clipping.
        max_skipped: number of consecutive updates that may be skipped because the loss or gradient is non-finite; more
            stop the training.
        drop_path_rate: stochastic depth rate of the last block; by default 0.1 if the model supports it.
        hflip: probability of a horizontal flip; by default 0.5, or 0 for samples that must not be mirrored.
        vflip: probability of a vertical flip.
        ema_decay: EMA decay of the weights; the EMA weights are validated and saved; by default the EMA spans the last
            twentieth of the updates; 0 disables it.
        select: save the weights of the best epoch on the validation set, or of the last epoch.
        average: save the mean of the weights of several epochs instead: of the last N (last=N), or of the N best on the
            validation set (best=N); BatchNorm's running statistics are computed again on the training images.
        logger: also log to wandb, mlflow or trackio, whose package must be installed; TensorBoard's files are always
            written.
        seed: random seed for weights, split, order and augmentation.
        workers: number of data loading processes; by default half of the CPU cores, at most 8.
        precision: Lightning's precision, such as 32-true, bf16-mixed or 16-mixed; by default it depends on the device.
        device: device to train on: auto, cpu, cuda or mps, or another accelerator of Lightning.
        devices: number of devices, or a list of their indices, such as 0,1.
        num_nodes: number of machines.
        strategy: Lightning's strategy, such as ddp or fsdp.
        grad_checkpointing: recompute activations in the backward pass, which takes less memory and more time.
        checkpointed_stages: number of stages of a TransXNet to checkpoint, from the first, which has the largest
            feature maps; by default all with grad_checkpointing, else none.
        compile: compile the model with torch.compile; by default on a CPU if training takes more than an hour and a
            measurement shows that it becomes faster.
        deterministic: allow only deterministic operations, so that results are reproducible on the same machine.

    Raises:
        UserError: a value has the wrong type or is out of range.
    """

    task: ClassVar[str]
    command: ClassVar[str] = "train"
    """The command that has these options."""
    OWN: ClassVar[tuple[str, ...]] = ()
    """Options that only this task has; a group in the help."""
    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": ("out", "seed", "select", "average", "val_every", "logger"),
        "data": ("val_fraction", "train_fraction", "group_from", "exclude", "split_file", "channels", "limit"),
        "model": ("model", "pretrained", "checkpoint", "freeze", "freeze_epochs", "drop_path_rate"),
        "schedule": (
            "epochs", "batch_size", "accumulate", "lr", "milestones", "warmup_epochs", "warmup_lr", "min_lr",
            "cooldown_epochs", "patience",
        ),
        "optimizer and regularization": (
            "opt", "weight_decay", "layer_decay", "clip_grad", "max_skipped", "ema_decay",
        ),
        "augmentation": ("hflip", "vflip"),
        "hardware": (
            "workers", "precision", "device", "devices", "num_nodes", "strategy", "grad_checkpointing",
            "checkpointed_stages", "compile", "deterministic",
        ),
    }  # fmt: skip
    """Groups of options in the help."""
    RULES: ClassVar[dict[str, Rule]] = {
        **dict.fromkeys(
            ("epochs", "accumulate", "num_nodes", "val_every", "channels", "limit", "patience", "freeze_epochs"), COUNT
        ),
        "checkpointed_stages": (lambda value: 1 <= value <= 4, "must be an integer from 1 to 4"),
        "batch_size": (lambda value: value == "auto" or value >= 1, "must be an integer of at least 1, or auto"),
        **dict.fromkeys(("hflip", "vflip"), SHARE),
        **dict.fromkeys(("drop_path_rate", "ema_decay", "val_fraction"), RATE),
        **dict.fromkeys(("layer_decay", "train_fraction"), FACTOR),
        "average": (
            lambda value: re.fullmatch(r"(last|best)=0*[1-9]\d*", value) is not None,
            "must be last=N or best=N with a number of epochs N",
        ),
        **dict.fromkeys(
            ("lr", "min_lr", "warmup_lr", "warmup_epochs", "weight_decay", "cooldown_epochs", "workers", "clip_grad",
             "max_skipped", "seed"), POSITIVE,
        ),
    }  # fmt: skip

    data: str
    model: str = "transxnet_t"
    out: str | None = None
    pretrained: bool = False
    checkpoint: str | None = None
    freeze: str | None = None
    freeze_epochs: int | None = None
    val_fraction: float = 0.2
    train_fraction: float = 1.0
    group_from: str | None = None
    exclude: str | None = None
    split_file: str | None = None
    channels: int | None = None
    limit: int | None = None
    val_every: int = 1
    epochs: int | None = None
    cooldown_epochs: int = 0
    patience: int | None = None
    batch_size: int | Literal["auto"] | None = None
    accumulate: int = 1
    opt: str = "adamw"
    lr: float | None = None
    min_lr: float = 1e-6
    milestones: str | None = None
    warmup_lr: float = 1e-6
    warmup_epochs: float | None = None
    weight_decay: float = 0.05
    layer_decay: float | None = None
    clip_grad: float | None = None
    max_skipped: int = 10
    drop_path_rate: float | None = None
    hflip: float | None = None
    vflip: float = 0.0
    ema_decay: float | None = None
    select: Literal["best", "last"] = "best"
    average: str | None = None
    logger: str | None = None
    seed: int = 0
    workers: int | None = None
    precision: str | None = None
    device: str = "auto"
    devices: str | int = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    grad_checkpointing: bool = False
    checkpointed_stages: int | None = None
    compile: bool | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            if get_origin(hint) is not ClassVar:
                object.__setattr__(self, name, _convert(name, getattr(self, name), hint))
        for name, (fits, words) in self.RULES.items():
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise UserError(f"{name} {words}, got {value!r}.")
        if self.epochs is not None and self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise UserError(f"warmup_epochs must be less than epochs ({self.epochs}), got {self.warmup_epochs:g}.")
        if self.epochs is not None and self.val_every > self.epochs + self.cooldown_epochs:
            raise UserError(f"val_every must be at most epochs ({self.epochs}), got {self.val_every}.")
        if self.freeze_epochs is not None and self.freeze is None:
            raise UserError("freeze_epochs needs freeze. Add --freeze backbone.")
        averaged = self.averaged_epochs()
        if averaged is not None and self.epochs is not None and averaged[1] > self.epochs + self.cooldown_epochs:
            raise UserError(f"average must name at most the number of epochs ({self.epochs}), got {self.average}.")
        self.decay_epochs()

    @property
    def predicted(self) -> str:
        """What the model predicts: the task, or a classifier's kind of targets."""
        return self.task

    @property
    def selects_by_validation(self) -> bool:
        """Whether the validation images select the epochs whose weights are saved."""
        return (self.average or self.select).startswith("best")

    def averaged_epochs(self) -> tuple[str, int] | None:
        """Return which epochs' weights are averaged, "last" or "best", and their number; None without averaging."""
        if self.average is None:
            return None
        which, _, count = self.average.partition("=")
        return which, int(count)

    def decay_epochs(self) -> list[float]:
        """Return the milestones as numbers; empty for a cosine schedule.

        Raises:
            UserError: the milestones are not increasing numbers.
        """
        try:
            epochs = [float(word) for word in self.milestones.split(",")] if self.milestones else []
        except ValueError:
            epochs = [0.0]
        if not all(before < after for before, after in zip([0.0, *epochs], epochs, strict=False)):
            raise UserError(f"milestones must be increasing epoch numbers, such as 8,11, got {self.milestones!r}.")
        return epochs

    def replace(self, **changes: Any) -> "TrainConfig":
        """Return a copy with changed values."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the options, including the task, as plain data."""
        return {"task": self.task, **asdict(self)}

    def to_yaml(self) -> str:
        """Return the options as a YAML recipe, in their order in the help."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_arguments(self, exclude: Collection[str] = ()) -> list[str]:
        """Return the command-line arguments of the options that differ from their defaults, without data and out."""
        arguments = ["--task", self.task] if self.task in ("detect", "segment") else []
        for name, value in asdict(self).items():
            if name not in ("data", "out", *exclude) and value != getattr(type(self), name):
                arguments += option_words(name, value)
        return arguments


_KINDS = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


def _convert(name: str, value: Any, hint: Any) -> Any:
    """Convert a value to the option's type. Text may contain a number: YAML 1.1 reads 1e-3 as text."""
    kinds = get_args(hint) if not isinstance(hint, type) else (hint,)
    if value is None and type(None) in kinds:
        return None
    words = [word for kind in kinds for word in get_args(kind)]
    if isinstance(value, str) and value in words:
        return value
    if isinstance(kinds[0], str):
        if value in kinds:
            return value
        raise UserError(f"{name} must be {' or '.join(map(repr, kinds))}, got {value!r}.")
    if bool in kinds or isinstance(value, bool):
        if bool in kinds and isinstance(value, bool):
            return value
    elif isinstance(value, int) and int in kinds:
        return value
    elif str in kinds:
        if isinstance(value, (str, Path)):
            return str(value)
    else:
        number = int if int in kinds else float
        try:
            converted = number(value)
            if math.isfinite(converted) and (isinstance(value, str) or converted == value):
                return converted
        except (TypeError, ValueError, OverflowError):
            pass
    expected = " or ".join([*(text for kind, text in _KINDS.items() if kind in kinds), *map(repr, words)])
    raise UserError(f"{name} must be {expected}, got {value!r}.")
