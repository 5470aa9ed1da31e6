"""Folders of class folders."""

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from transxnet.data.image_set import FilePictures, ImageSet
from transxnet.data.images import EXTENSIONS
from transxnet.data.labels import class_order
from transxnet.data.names import Below, Names
from transxnet.utils.errors import UserError

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
    counts: list[int] = []
    names = Names(_names_in_classes(root, classes, counts))
    labels = np.repeat(np.arange(len(classes)), counts)
    return ImageSet(FilePictures(Below(str(root), names)), names, labels, list(classes))


def _names_in_classes(root: Path, classes: Sequence[str], counts: list[int]) -> Iterator[str]:
    """The images' names below the root, class by class; how many each class has is added to the counts."""
    for name in classes:
        count, above = 0, len(os.path.join(root / name, ""))
        for path in walk_images(root / name):
            count += 1
            yield f"{name}/{path[above:]}"
        if not count:
            raise UserError(
                f"the class folder {root / name} holds no image ({', '.join(sorted(EXTENSIONS))}). "
                "Add some, or remove the folder."
            )
        counts.append(count)


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder by their ending, sorted; links to folders are not followed, hidden files left out."""
    return [Path(path) for path in walk_images(folder)]


def walk_images(folder: str | Path) -> Iterator[str]:
    """The paths of :func:`list_images` one by one: a million of them would take half a gigabyte."""
    for directory, folders, files in os.walk(folder, onerror=refuse_folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (os.path.join(directory, name) for name in sorted(files) if is_image(name))


def _folders(root: Path) -> list[str]:
    """Names of the sub-folders, hidden ones left out, in a fixed order."""
    try:
        names = os.listdir(root)
    except OSError as error:
        refuse_folder(error)
    return sorted(name for name in names if not name.startswith(".") and (root / name).is_dir())


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; raises UserError where it can't be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        refuse_folder(error)


def glob_files(pattern: str) -> Iterator[str]:
    """The names that a glob finds, where ``**`` does not follow links to folders: they can go round in circles.

    Python's own follows them until the system has enough, which takes 2^40 folders where two links lead back.
    """
    before, stars, after = f"/{pattern}/".partition("/**/")
    if not stars:
        yield from glob.iglob(pattern)
        return
    base = before[1:] or ("/" if pattern.startswith("/") else "")
    for start in glob.iglob(base) if glob.has_magic(base) else [base]:
        for directory, folders, _ in os.walk(start or "."):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = os.path.relpath(directory, start or ".")
            names = [glob.escape(part) for part in (start, below) if part not in ("", ".")]
            yield from glob_files(os.path.join(*names, after.rstrip("/") or "*"))


def refuse_folder(error: OSError) -> NoReturn:
    """Raise the UserError of a folder that can't be read."""
    raise UserError(f"the folder {error.filename} can't be read: {error.strerror}. Check its permissions.") from error


def is_image(name: str) -> bool:
    """Whether a file is an image by its ending."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")
