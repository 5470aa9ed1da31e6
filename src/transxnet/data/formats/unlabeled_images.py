"""Images without labels, in a folder and all folders below it."""

from pathlib import Path

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import FileImages, ImageCollection
from transxnet.data.reading.file_search import entries, is_image, list_folders, walk_images
from transxnet.data.reading.packed_strings import PackedStrings, PathsBelow
from transxnet.utils.errors import UserError

NO_CLASSES = ["image"]
"""Class names of images without labels: all have the same."""


def has_class_folders(root: Path) -> bool:
    """Return whether all images below a folder are in at least two folders, which are then their classes."""
    folders = list_folders(root)
    if len(folders) < 2 or any(is_image(path.name) and path.is_file() for path in entries(root)):
        return False
    return all(next(walk_images(root / name), None) is not None for name in folders)


def read_unlabeled_images(root: Path) -> ClassificationSet:
    """Read all images below a folder.

    Raises:
        UserError: there are none, or a folder cannot be read.
    """
    start = len(str(root)) + 1
    names = PackedStrings(path[start:] for path in walk_images(str(root)))
    if not len(names):
        raise UserError(f"{root} contains no images. Accepted: a folder with images, in any folders below it.")
    return ClassificationSet(
        FileImages(PathsBelow(str(root), names)), names, NO_CLASSES, np.zeros(len(names), np.int64)
    )


def without_labels(images: ImageCollection) -> ClassificationSet:
    """Return the same images without their labels."""
    labels = np.zeros(len(images.storage), np.int64)
    return ClassificationSet(
        images.storage, images.names, NO_CLASSES, labels, indices=images.indices, groups=images.groups
    )
