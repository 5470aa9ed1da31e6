"""Folders of class folders."""

import os
from pathlib import Path

import numpy as np

from transxnet.data.image_set import FilePictures, ImageSet, relative_names
from transxnet.data.images import EXTENSIONS
from transxnet.data.labels import class_order
from transxnet.errors import UserError

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "valid", "test")
ACCEPTED = "a folder with a folder of images for each class, such as photos/cat/*.jpg and photos/dog/*.jpg"


def find_parts(root: Path) -> tuple[Path, Path | None]:
    """The folder to train on and the folder to validate on, if the root has ``train/`` and ``val/``.

    Raises:
        UserError: no such folder, not a folder, or a ``val/`` without a ``train/``.
    """
    if not root.exists():
        raise UserError(f"there is no folder {root}. Accepted: {ACCEPTED}, with or without train/ and val/ above them.")
    if not root.is_dir():
        raise UserError(f"{root} is a file. Accepted: {ACCEPTED}.")
    train = next((root / name for name in TRAIN_NAMES if (root / name).is_dir()), None)
    val = next((root / name for name in VAL_NAMES if (root / name).is_dir()), None)
    if train is None:
        return root, None
    return train, val


def read_class_folders(root: Path, minimum: int = 1) -> ImageSet:
    """All images below the class folders of ``root``, classes and images in a fixed order.

    Args:
        root: its sub-folders are the classes; hidden ones do not count. Images may lie deeper.
        minimum: how many classes there must be.

    Raises:
        UserError: no classes, fewer than ``minimum``, or a class without image files.
    """
    classes = class_order([e.name for e in os.scandir(root) if e.is_dir() and not e.name.startswith(".")])
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
    for directory, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(directory, f) for f in sorted(files) if is_image(f)]
    return found


def is_image(name: str) -> bool:
    """Whether a file is an image by its ending."""
    return Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")
