"""Open the training and validation images of a run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import partial
from pathlib import Path

from rich.console import Console

from transxnet.data.formats.label_table import TableOptions
from transxnet.data.open_data import DataSource, open_data
from transxnet.runs.config import TrainConfig
from transxnet.utils.progress import progress_bar


def trained_on(config: TrainConfig, data: str | None) -> bool:
    """Return whether DATA is the data that a run was trained on, under any path; None also means that data."""
    return data is None or data == config.data or Path(data).resolve() == Path(config.data).resolve()


def open_run_data(
    config: TrainConfig, console: Console | None, stored_split: Path | None, *, check_images: bool = True
) -> DataSource:
    """Open the data of a training configuration, with the stored split or a new one.

    Args:
        config: training options.
        console: console for the progress of checking images, or None.
        stored_split: file of the run's split, if it has one.
        check_images: decode every image and skip unreadable ones.
    """
    options = ("train_split", "val_split", "num_classes", "targets", "zero_is_ignored")
    return open_data(
        config.data,
        config.task,
        val_fraction=config.val_fraction,
        seed=config.seed,
        limit=config.limit,
        stored_split=stored_split,
        table=table_options(config),
        group_from=config.group_from,
        masks=getattr(config, "head", None) == "maskrcnn",
        check_images=check_images,
        progress=None if console is None else check_progress(console),
        **{name: getattr(config, name) for name in options if hasattr(config, name)},
    )


def table_options(config: TrainConfig | None) -> TableOptions:
    """Return the columns of a label table that a training configuration names."""
    return TableOptions(**{field.name: getattr(config, field.name, None) for field in fields(TableOptions)})


def check_progress(console: Console) -> Callable[[int], AbstractContextManager[Callable[[int], None]]]:
    """Return a progress bar for checking images."""
    return partial(progress_bar, console, "checking the images")
