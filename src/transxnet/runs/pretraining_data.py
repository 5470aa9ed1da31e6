"""Open the images of a pretraining, with labels only for measuring."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.formats.unlabeled_images import has_class_folders, without_labels
from transxnet.data.open_data import DataSource
from transxnet.data.recognize import Recognition, recognize
from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.runs.training_data import open_run_data
from transxnet.utils.errors import UserError


def open_pretraining_data(config: PretrainConfig, console: Console | None, stored_split: Path | None) -> DataSource:
    """Open DATA of any task, or a folder of images without labels.

    Returns:
        Training and validation images with their classes, or with a single class if they have none. The test set is
        dropped.

    Raises:
        UserError: DATA cannot be opened, or is read in order.
    """
    source: Any = open_run_data(config, console, stored_split, recognition=_recognize(config.data))
    if isinstance(source.train, Stream):
        raise UserError(
            f"pretraining needs images in files or in a sample, and those of {config.data} are read in order. Name a "
            "folder or a sample."
        )
    train, val = (_classes_or_none(images) for images in (source.train, source.val))
    return replace(source, train=train, val=val, test=None, test_split_off=False)


def _recognize(data: str) -> Recognition:
    """Recognize DATA; folders that are not class folders have images without labels."""
    found = recognize(data)
    if found.format != "class folders" or found.parts is None:
        return found
    folders = [part for part in found.parts if part is not None]
    if all(has_class_folders(folder) for folder in folders):
        return found
    return replace(found, format="images", why="its images are not in class folders")


def _classes_or_none(images: Any) -> ClassificationSet:
    """Return the images with one class each, or without labels."""
    classes = isinstance(images, ClassificationSet) and images.targets == "classes"
    return images if classes else without_labels(images)
