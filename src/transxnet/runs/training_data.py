"""Open the training and validation images of a run."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import partial
from pathlib import Path

from rich.console import Console

from transxnet.data.formats.exclusions import read_exclusions
from transxnet.data.formats.label_table import TableOptions
from transxnet.data.open_data import DataSource, open_data
from transxnet.data.reading.file_search import walk_images
from transxnet.data.reading.pixels import extensions_for
from transxnet.data.recognize import Recognition, recognize, recognize_name
from transxnet.data.split import split_names
from transxnet.runs.config import TrainConfig
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError
from transxnet.utils.progress import progress_bar


def trained_on(config: TrainConfig, data: str | None) -> bool:
    """Return whether DATA is the data that a run was trained on, under any path; None also means that data."""
    return data is None or data == config.data or Path(data).resolve() == Path(config.data).resolve()


def run_config(run: Run, data: str | None = None) -> TrainConfig:
    """Return the configuration of a run, with the present path of its data.

    Args:
        run: a run folder.
        data: DATA as given. If the run's data no longer exists, and this folder has all images of the run's split that
            are not excluded, the data was moved there.

    Raises:
        UserError: the data no longer exists, and none is given.
    """
    config = run.read_config()
    if recognize_name(config.data) or os.path.exists(config.data):
        return config
    if data is None:
        raise UserError(
            f"{config.data}, the data of the run {run.path}, no longer exists. Restore it, or set data in "
            f"{run.config_file} to its new path."
        )
    if run.stored_split is None:
        return config
    names = set(split_names(run.stored_split))
    if config.exclude is not None:
        names -= read_exclusions(config.exclude).all_names
    return config.replace(data=str(Path(data).resolve())) if _has_images(data, names, config.channels) else config


def _has_images(folder: str, names: Iterable[str], channels: int | None) -> bool:
    """Whether all these images exist, at any depth of the folder."""
    parts = (Path(path).relative_to(folder).parts for path in walk_images(folder, extensions=extensions_for(channels)))
    found = {"/".join(own[start:]) for own in parts for start in range(len(own))}
    return found.issuperset(names)


def open_run_data(
    config: TrainConfig,
    console: Console | None,
    stored_split: Path | None,
    *,
    check_images: bool = True,
    recognition: Recognition | None = None,
) -> DataSource:
    """Open the data of a training configuration, with the stored split or a new one.

    Args:
        config: training options.
        console: console for the progress of checking images, or None.
        stored_split: file of the run's split, if it has one.
        check_images: decode every image and skip unreadable ones.
        recognition: format of the data; by default recognized for the task.
    """
    options = ("train_split", "val_split", "num_classes", "targets", "zero_is_ignored")
    return open_data(
        recognition or recognize(config.data, config.task),
        val_fraction=config.val_fraction,
        train_fraction=config.train_fraction,
        seed=config.seed,
        limit=config.limit,
        stored_split=stored_split,
        table=table_options(config),
        group_from=config.group_from,
        exclude=config.exclude,
        channels=config.channels,
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
