"""Everything that defines a training, whatever it is for."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from transxnet.utils.errors import UserError

Rule = tuple[Callable[[Any], bool], str]
"""What an option's values must be like, and the words for it."""

COUNT: Rule = lambda value: value >= 1, "must be a whole number of at least 1"
SHARE: Rule = lambda value: 0 <= value <= 1, "must lie between 0 and 1"
RATE: Rule = lambda value: 0 <= value < 1, "must be at least 0 and less than 1"
FACTOR: Rule = lambda value: 0 < value <= 1, "must be more than 0 and at most 1"
POSITIVE: Rule = lambda value: value >= 0, "must not be negative"
INSIDE: Rule = lambda value: 0 < value < 1, "must lie between 0 and 1"


@dataclass(frozen=True)
class TrainConfig:
    """How to train, whatever the task. What is left at null is chosen from the data and the hardware, and said.

    The tasks' own options are in :class:`~transxnet.runs.task_configs.ClassifyConfig`, ``DetectConfig`` and
    ``SegmentConfig``; :func:`~transxnet.runs.recipes.make_config` makes the right one.

    Args:
        data: a folder, a built-in sample (elpv, digits, scenes) or a timm reader name (hfds/..., wds/..., tfds/...).
        model: any of timm's models; ours are transxnet_n (nano, not the paper's), transxnet_t, transxnet_s and
            transxnet_b. Options of the model may follow its name, as in 'transxnet_t@local_conv=dyconv,dpe=false'.
        out: the run folder; by default runs/MODEL-DATA-NUMBER.
        pretrained: start from the published ImageNet weights.
        checkpoint: start from the weights in this file or run folder.
        val_fraction: share of the images to hold out where the data has no held-out part of its own.
        val_every: epochs from one validation to the next.
        epochs: passes over the training images, warm-up included; by default 100, or 50 for detection and segmentation.
        cooldown_epochs: further passes at the lowest rate.
        batch_size: images a step and process; by default what suits the device, or fewer for few images; auto takes the
            most that fit into memory.
        accumulate: steps whose gradients are added up before each update.
        opt: timm's name of the optimiser.
        lr: learning rate at its peak; by default it follows from the images in an update.
        min_lr: learning rate at the end.
        milestones: epochs at which the rate drops to a tenth, such as 8,11; by default it follows a cosine instead.
        warmup_lr: learning rate at the start.
        warmup_epochs: passes until the peak; by default a tenth of the epochs, at most 5.
        weight_decay: of weights; biases and norms have none.
        layer_decay: factor on the rate for each layer further from the output; by default none.
        clip_grad: largest norm of the gradient; by default none.
        max_skipped: updates in a row that may be left out since their loss or gradient is not finite; more stop the
            training.
        drop_path_rate: stochastic depth of the last block; by default 0.1 where the model has it.
        hflip: probability of a left-right flip; by default 0.5, or 0 for samples that must not be mirrored.
        vflip: probability of an upside-down flip.
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
        checkpointed_stages: of how many stages of one of our networks, from the first, whose maps are the largest; by
            default of all if grad_checkpointing, else of none.
        compile: compile the model with torch.compile.
        deterministic: let nothing compute whose result may differ from one run to the next on the same machine.

    Raises:
        UserError: a value of another type, or out of range.
    """

    task: ClassVar[str]
    OWN: ClassVar[tuple[str, ...]] = ()
    """The options that only this task has, for the help."""
    TOPICS: ClassVar[dict[str, tuple[str, ...]]] = {
        "run": ("out", "seed", "select", "val_every"),
        "data": ("val_fraction",),
        "model": ("model", "pretrained", "checkpoint", "drop_path_rate"),
        "schedule": (
            "epochs", "batch_size", "accumulate", "lr", "milestones", "warmup_epochs", "warmup_lr", "min_lr",
            "cooldown_epochs",
        ),
        "optimiser and regularisation": (
            "opt", "weight_decay", "layer_decay", "clip_grad", "max_skipped", "ema_decay",
        ),
        "augmentation": ("hflip", "vflip"),
        "hardware": (
            "workers", "precision", "accelerator", "devices", "num_nodes", "strategy", "grad_checkpointing",
            "checkpointed_stages", "compile", "deterministic",
        ),
    }  # fmt: skip
    """Which options belong together, for the help."""
    RULES: ClassVar[dict[str, Rule]] = {
        **dict.fromkeys(("epochs", "accumulate", "num_nodes", "val_every"), COUNT),
        "checkpointed_stages": (lambda value: 1 <= value <= 4, "must be a number of stages from 1 to 4"),
        "batch_size": (lambda value: value == "auto" or value >= 1, "must be a whole number of at least 1, or auto"),
        **dict.fromkeys(("hflip", "vflip"), SHARE),
        **dict.fromkeys(("drop_path_rate", "ema_decay"), RATE),
        "layer_decay": FACTOR,
        "val_fraction": INSIDE,
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
    val_fraction: float = 0.2
    val_every: int = 1
    epochs: int | None = None
    cooldown_epochs: int = 0
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
    seed: int = 0
    workers: int | None = None
    precision: str | None = None
    accelerator: str = "auto"
    devices: str | int = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    grad_checkpointing: bool = False
    checkpointed_stages: int | None = None
    compile: bool = False
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
            raise UserError(f"warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs:g}.")
        if self.epochs is not None and self.val_every > self.epochs + self.cooldown_epochs:
            raise UserError(f"val_every must be at most the {self.epochs} epochs, got {self.val_every}.")
        self.decay_epochs()

    def decay_epochs(self) -> list[float]:
        """The milestones as numbers, none for a cosine.

        Raises:
            UserError: they are no growing numbers.
        """
        try:
            epochs = [float(word) for word in self.milestones.split(",")] if self.milestones else []
        except ValueError:
            epochs = [0.0]
        if not all(before < after for before, after in zip([0.0, *epochs], epochs, strict=False)):
            raise UserError(f"milestones must be growing numbers of epochs, such as 8,11, got {self.milestones!r}.")
        return epochs

    def replace(self, **changes: Any) -> "TrainConfig":
        """A copy with other values."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """As plain data, the task among it."""
        return {"task": self.task, **asdict(self)}


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _convert(name: str, value: Any, hint: Any) -> Any:
    """Convert a value to the option's type. Text may hold a number: YAML 1.1 reads 1e-3 as text."""
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
