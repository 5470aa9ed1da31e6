"""Everything that defines a training, and the recipes that set it."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml

from transxnet.errors import UserError, nearest

RECIPES = Path(__file__).parent.parent / "recipes"

TOPICS = {
    "run": ("out", "seed", "select"),
    "data": ("val_fraction", "train_split", "val_split", "num_classes"),
    "model": ("model", "pretrained", "checkpoint", "img_size", "crop_pct", "drop_path_rate", "drop_rate"),
    "schedule": (
        "epochs", "batch_size", "accumulate", "lr", "warmup_epochs", "warmup_lr", "min_lr", "cooldown_epochs",
    ),
    "optimiser and regularisation": (
        "opt", "weight_decay", "layer_decay", "clip_grad", "smoothing", "mixup", "cutmix", "ema_decay",
    ),
    "augmentation": ("min_scale", "hflip", "vflip", "color_jitter", "auto_augment", "random_erasing"),
    "hardware": (
        "workers", "precision", "accelerator", "devices", "num_nodes", "strategy", "grad_checkpointing", "compile",
    ),
}  # fmt: skip
"""Which options belong together, for the help."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train a classifier. What is left at null is chosen from the data and the hardware, and said.

    Args:
        data: a folder of class folders, a built-in sample (elpv, digits) or a timm reader name (hfds/..., wds/...,
            tfds/...).
        model: any of timm's models; ours are transxnet_n (nano, not the paper's), transxnet_t, transxnet_s and
            transxnet_b.
        out: the run folder; by default runs/MODEL-DATA-NUMBER.
        pretrained: start from the published ImageNet weights.
        checkpoint: start from the weights in this file or run folder.
        img_size: side of the input in pixels; by default what suits the sample, or the model's own.
        crop_pct: share of the resized picture that the centre crop keeps outside training; by default the model's own.
        val_fraction: share of the images to hold out where the data has no val/ of its own.
        train_split: split of a timm reader to train on.
        val_split: split of a timm reader to validate on.
        num_classes: for timm readers that do not know their classes.
        epochs: passes over the training images, warm-up included; by default 100.
        cooldown_epochs: further passes at the lowest rate.
        batch_size: images a step and process; by default 128 on a GPU and 32 on a CPU, or fewer for few images.
        accumulate: steps whose gradients are added up before each update.
        opt: timm's name of the optimiser.
        lr: learning rate at its peak; by default it follows from the images in an update.
        min_lr: learning rate at the end.
        warmup_lr: learning rate at the start.
        warmup_epochs: passes until the peak; by default a tenth of the epochs, at most 5.
        weight_decay: of weights; biases and norms have none.
        layer_decay: factor on the rate for each layer further from the output; by default none.
        clip_grad: largest norm of the gradient; by default none.
        drop_path_rate: stochastic depth of the last block; by default 0.1 where the model has it.
        drop_rate: dropout before the classifier.
        smoothing: label smoothing.
        mixup: strength of mixup.
        cutmix: strength of cutmix.
        min_scale: smallest share of a picture's area that a training crop keeps.
        hflip: probability of a left-right flip.
        vflip: probability of an upside-down flip.
        color_jitter: strength of random brightness, contrast and saturation.
        auto_augment: timm's policy, such as rand-m9-mstd0.5-inc1, in place of the colour jitter; by default none.
        random_erasing: probability of erasing a random rectangle.
        ema_decay: of the moving average of the weights, which is what is validated and kept; by default it averages
            the last twentieth of the training; 0 keeps none.
        select: keep the weights of the epoch that was best on the held-out images, or of the last.
        seed: of weights, split, order and augmentation.
        workers: processes that decode and augment images; by default half of the processors, at most 8.
        precision: Lightning's name, such as 32-true, bf16-mixed or 16-mixed; by default what suits the device.
        accelerator: Lightning's name, such as cpu or gpu.
        devices: Lightning's number or list of devices.
        num_nodes: machines.
        strategy: Lightning's name, such as ddp or fsdp.
        grad_checkpointing: compute activations again in the backward pass: less memory, more time.
        compile: compile the model with torch.compile.

    Raises:
        UserError: a value of another type, or out of range.
    """

    data: str
    model: str = "transxnet_t"
    out: str | None = None
    pretrained: bool = False
    checkpoint: str | None = None
    img_size: int | None = None
    crop_pct: float | None = None
    val_fraction: float = 0.2
    train_split: str = "train"
    val_split: str = "validation"
    num_classes: int | None = None
    epochs: int | None = None
    cooldown_epochs: int = 0
    batch_size: int | None = None
    accumulate: int = 1
    opt: str = "adamw"
    lr: float | None = None
    min_lr: float = 1e-6
    warmup_lr: float = 1e-6
    warmup_epochs: float | None = None
    weight_decay: float = 0.05
    layer_decay: float | None = None
    clip_grad: float | None = None
    drop_path_rate: float | None = None
    drop_rate: float = 0.0
    smoothing: float = 0.1
    mixup: float = 0.0
    cutmix: float = 0.0
    min_scale: float = 0.35
    hflip: float = 0.5
    vflip: float = 0.0
    color_jitter: float = 0.2
    auto_augment: str | None = None
    random_erasing: float = 0.0
    ema_decay: float | None = None
    select: Literal["best", "last"] = "best"
    seed: int = 0
    workers: int | None = None
    precision: str | None = None
    accelerator: str = "auto"
    devices: str | int = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    grad_checkpointing: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self)).items():
            object.__setattr__(self, name, _typed(name, getattr(self, name), hint))
        for name in ("epochs", "batch_size", "accumulate", "num_nodes", "num_classes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be a whole number of at least 1, got {value!r}.")
        for name in ("smoothing", "hflip", "vflip", "random_erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}.")
        for name in ("drop_path_rate", "drop_rate", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UserError(f"{name} must be at least 0 and less than 1, got {value!r}.")
        for name in ("crop_pct", "min_scale", "layer_decay"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UserError(f"{name} must be more than 0 and at most 1, got {value!r}.")
        for name in (
            "lr", "min_lr", "warmup_lr", "warmup_epochs", "weight_decay", "mixup", "cutmix", "cooldown_epochs",
            "workers", "clip_grad", "color_jitter", "seed",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"{name} must not be negative, got {value!r}.")
        if self.epochs is not None and self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            raise UserError(f"warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs:g}.")
        if not 0 < self.val_fraction < 1:
            raise UserError(f"val_fraction must lie between 0 and 1, got {self.val_fraction!r}.")
        if self.img_size is not None and self.img_size < 32:
            raise UserError(f"img_size must be at least 32 pixels, got {self.img_size}.")
        if self.select not in ("best", "last"):
            raise UserError(f"select must be 'best' or 'last', got {self.select!r}.")
        if (self.mixup or self.cutmix) and self.batch_size is not None and self.batch_size % 2:
            raise UserError(
                f"mixup and cutmix pair the images of a batch: batch_size must be even, got {self.batch_size}."
            )

    @classmethod
    def create(cls, data: str | Path, recipe: str | Path | None = None, **options: Any) -> "TrainConfig":
        """A recipe's values under the given ones.

        Raises:
            UserError: an unknown recipe or option, or a value out of range.
        """
        check_options(options)
        return cls(**{**({} if recipe is None else read_recipe(recipe)), **options, "data": data})

    def replace(self, **changes: Any) -> "TrainConfig":
        """A copy with other values."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _typed(name: str, value: Any, hint: Any) -> Any:
    """The value as the option's type. Text that says a number is one: YAML 1.1 takes 1e-3 for text."""
    kinds = get_args(hint) if not isinstance(hint, type) else (hint,)
    if value is None and type(None) in kinds:
        return None
    if bool in kinds or isinstance(value, bool):
        if bool in kinds and isinstance(value, bool):
            return value
    elif isinstance(value, int) and int in kinds:
        return value
    elif str in kinds or isinstance(kinds[0], str):
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
    expected = " or ".join(words for kind, words in _KINDS.items() if kind in kinds) or " or ".join(map(repr, kinds))
    raise UserError(f"{name} must be {expected}, got {value!r}.")


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def recipe_path(recipe: str | Path) -> Path:
    """The file of a recipe: one of ours by name, or a user's by path.

    Raises:
        UserError: there is none.
    """
    for path in (RECIPES / f"{recipe}.yaml", Path(recipe)):
        if path.is_file():
            return path
    names = recipe_names()
    raise UserError(
        f"there is no recipe {str(recipe)!r}.{nearest(str(recipe), names)} "
        f"Accepted: {', '.join(names)}, or a YAML file."
    )


def read_recipe(recipe: str | Path) -> dict[str, Any]:
    """The values that a recipe sets.

    Raises:
        UserError: no such recipe, not YAML, or options that do not exist.
    """
    path = recipe_path(recipe)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} is not a YAML file of options: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold lines of 'option: value', got a {type(values).__name__}.")
    try:
        check_options(values)
        config = TrainConfig(**{"data": "", **values})
    except UserError as error:
        raise UserError(f"in {path}: {error}") from error
    return {name: getattr(config, name) for name in values}


def check_options(values: dict[str, Any]) -> None:
    """Raise UserError, with the nearest names, for options that :class:`TrainConfig` does not have."""
    known = [field.name for field in fields(TrainConfig)]
    for name in values:
        if name not in known:
            raise UserError(f"there is no option {name!r}.{nearest(str(name), known)} See: transxnet train --help")
