"""The images that a run was trained and validated on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.data.dense_sources import DenseSource, open_dense_source
from transxnet.data.sources import Source, open_source
from transxnet.runs.config import TrainConfig
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.utils.progress import progress_bar


def trained_on(config: TrainConfig, data: str | None) -> bool:
    """Whether DATA is what a run was trained on, by whatever path it is named; None stands for that."""
    return data is None or data == config.data or Path(data).resolve() == Path(config.data).resolve()


def open_data(config: ClassifyConfig, stored_split: Path | None) -> Source:
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


def open_dense(config: Any, console: Console, stored_split: Path | None) -> DenseSource:
    """The photographs that a detector's or segmenter's options name, split as a stored split says or anew."""
    return open_dense_source(
        config.data,
        config.task,
        masks=getattr(config, "head", None) == "maskrcnn",
        zero_is_ignored=getattr(config, "zero_is_ignored", None),
        val_fraction=config.val_fraction,
        seed=config.seed,
        stored_split=stored_split,
        progress=looking(console),
    )


def looking(console: Console) -> Callable[[int], AbstractContextManager[Callable[[int], None]]]:
    """Shows a bar while photographs are looked at."""
    return partial(progress_bar, console, "looking at the images")
