"""Data in class folders: one folder for each class."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.class_alignment import class_order
from transxnet.data.formats.parts import TRAIN_NAMES, Parts
from transxnet.data.reading.file_search import list_folders, walk_images
from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.data.reading.packed_strings import PackedStrings, PathsBelow
from transxnet.utils.errors import UserError

_VAL_NAMES = ("val", "validation", "valid", "test")
ACCEPTED = "a folder with one folder of images per class, such as photos/cat/*.jpg and photos/dog/*.jpg"


def find_parts(root: Path) -> Parts:
    """Find ``train/`` and ``val/`` below the root, by any common name in upper or lower case; None for a missing one.

    Without ``train/``, a ``val/`` is accepted only if it holds folders: *valid* and *test* are names of classes too.

    Raises:
        UserError: the root does not exist or is not a folder.
    """
    if not root.exists():
        raise UserError(f"folder {root} does not exist. Accepted: {ACCEPTED}, optionally in train/ and val/.")
    if not root.is_dir():
        raise UserError(f"{root} is a file. Accepted: {ACCEPTED}.")
    folders = {name.lower(): root / name for name in list_folders(root)}
    train = next((folders[name] for name in TRAIN_NAMES if name in folders), None)
    val = next((folders[name] for name in _VAL_NAMES if name in folders), None)
    if train is None and val is not None and not list_folders(val):
        val = None
    return Parts(train, val)


def find_class_folders(root: Path) -> Parts:
    """Find the training and validation folder; without such subfolders, the root itself is the training folder."""
    parts = find_parts(root)
    return parts if any(parts) else Parts(root)


def read_class_folders(root: Path, minimum: int = 1) -> ClassificationSet:
    """Read all images below the class folders of ``root``, classes and images in a fixed order.

    Args:
        root: its subfolders are the classes, without hidden ones. Images may be nested deeper.
        minimum: minimum number of classes.

    Raises:
        UserError: no classes, fewer than ``minimum``, a class without image files, or a folder that cannot be read.
    """
    classes = class_order(list_folders(root))
    if not classes:
        found = sum(1 for _ in root.iterdir())
        what = "is empty" if not found else f"contains {found} files and no folders"
        raise UserError(f"{root} {what}. Accepted: {ACCEPTED}.")
    if len(classes) < minimum:
        raise UserError(
            f"{root} contains one class, {classes[0]!r}; a classifier needs at least {minimum}. Accepted: {ACCEPTED}. "
            f"Did you mean {root / classes[0]}?"
        )
    counts: list[int] = []
    names = PackedStrings(_names_in_classes(root, classes, counts))
    labels = np.repeat(np.arange(len(classes)), counts)
    return ClassificationSet(FileImages(PathsBelow(str(root), names)), names, list(classes), labels)


def _names_in_classes(root: Path, classes: Sequence[str], counts: list[int]) -> Iterator[str]:
    """Iterate over image names below the root, class by class; append the number of images per class to the counts."""
    for name in classes:
        count, above = 0, len(os.path.join(root / name, ""))
        for path in walk_images(root / name):
            count += 1
            yield f"{name}/{path[above:]}"
        if not count:
            raise UserError(
                f"class folder {root / name} contains no images ({', '.join(sorted(EXTENSIONS))}). "
                "Add images, or remove the folder."
            )
        counts.append(count)
