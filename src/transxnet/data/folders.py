"""Folders of class folders."""

import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from transxnet.data.image_set import FilePictures, ImageSet, relative_names
from transxnet.data.images import EXTENSIONS
from transxnet.data.labels import class_order
from transxnet.errors import UserError

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "valid", "test")
ACCEPTED = "a folder with a folder of images for each class, such as photos/cat/*.jpg and photos/dog/*.jpg"


def find_parts(root: Path) -> tuple[Path | None, Path | None]:
    """``train/`` and ``val/`` of the root by any of their usual names, upper or lower case; None for what it lacks.

    Without ``train/``, a ``val/`` must hold folders to count: *valid* and *test* are names of classes too.

    Raises:
        UserError: no such folder, or not a folder.
    """
    if not root.exists():
        raise UserError(f"there is no folder {root}. Accepted: {ACCEPTED}, with or without train/ and val/ above them.")
    if not root.is_dir():
        raise UserError(f"{root} is a file. Accepted: {ACCEPTED}.")
    folders = {name.lower(): root / name for name in _folders(root)}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), None)
    val = next((folders[name] for name in VAL_NAMES if name in folders), None)
    if train is None and val is not None and not _folders(val):
        val = None
    return train, val


def read_class_folders(root: Path, minimum: int = 1) -> ImageSet:
    """All images below the class folders of ``root``, classes and images in a fixed order.

    Args:
        root: its sub-folders are the classes; hidden ones do not count. Images may lie deeper.
        minimum: how many classes there must be.

    Raises:
        UserError: no classes, fewer than ``minimum``, a class without image files, or a folder that can't be read.
    """
    classes = class_order(_folders(root))
    if not classes:
        found = sum(1 for _ in root.iterdir())
        what = "is empty" if not found else f"holds {found} files and no folder"
        raise UserError(f"{root} {what}. Accepted: {ACCEPTED}.")
    if len(classes) < minimum:
        raise UserError(
            f"{root} holds one class, {classes[0]!r}; a classifier needs at least {minimum}. Accepted: {ACCEPTED}. "
            f"Is {root / classes[0]} the folder that you meant?"
        )
    paths, labels = [], []
    for label, name in enumerate(classes):
        files = list_images(root / name)
        if not files:
            raise UserError(
                f"the class folder {root / name} holds no image ({', '.join(sorted(EXTENSIONS))}). "
                "Add some, or remove the folder."
            )
        paths += files
        labels += [label] * len(files)
    return ImageSet(
        FilePictures([str(path) for path in paths]), relative_names(paths, root), np.array(labels), list(classes)
    )


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder by their ending, sorted; links to folders are not followed, hidden files left out."""
    found = []
    for directory, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(directory, f) for f in sorted(files) if is_image(f)]
    return found


def _folders(root: Path) -> list[str]:
    """Names of the sub-folders, hidden ones left out, in a fixed order."""
    try:
        names = os.listdir(root)
    except OSError as error:
        _refuse(error)
    return sorted(name for name in names if not name.startswith(".") and (root / name).is_dir())


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"the folder {error.filename} can't be read: {error.strerror}. Check its permissions.") from error


def is_image(name: str) -> bool:
    """Whether a file is an image by its ending."""
    return Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
