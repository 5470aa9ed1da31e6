"""The options of pretraining."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from transxnet.runs.config import FACTOR, POSITIVE, Rule, TrainConfig
from transxnet.utils.errors import UserError


@dataclass(frozen=True)
class PretrainConfig(TrainConfig):
    """Options for pretraining a network without labels; see :class:`TrainConfig` for the others.

    Args:
        method: vicreg (Bardes et al. 2022), also for small batches; simsiam (Chen and He 2021), which is faster; or
            distill, which imitates the features of a teacher.
        teacher: run folder or model name of the network whose features are imitated, for distill.
        img_size: side of the input in pixels; by default that of the sample or of the model.
        min_scale: smallest fraction of the image area that a training crop keeps.
        color_jitter: strength of random brightness, contrast, saturation and hue.

    Raises:
        UserError: a value has the wrong type or is out of range.
    """

    task: ClassVar[str] = "pretrain"
    command: ClassVar[str] = "pretrain"
    OWN: ClassVar[tuple[str, ...]] = ("method", "teacher", "img_size", "min_scale", "color_jitter")
    RULES: ClassVar[dict[str, Rule]] = {
        **TrainConfig.RULES,
        "img_size": (lambda value: value >= 32, "must be at least 32 pixels"),
        "min_scale": FACTOR,
        "color_jitter": POSITIVE,
    }

    val_fraction: float = 0.1
    select: Literal["best", "last"] = "last"
    method: Literal["vicreg", "simsiam", "distill"] = "vicreg"
    teacher: str | None = None
    img_size: int | None = None
    min_scale: float = 0.2
    color_jitter: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method == "distill" and self.teacher is None:
            raise UserError("method distill needs a teacher. Add --teacher with a run folder or a model name.")
        if self.method != "distill" and self.teacher is not None:
            raise UserError(f"teacher is for method distill, got method {self.method}. Use --method distill.")
