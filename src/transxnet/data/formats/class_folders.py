"""Data in class folders: one folder for each class."""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.class_alignment import class_order
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.parts import Parts, part_folders, part_of
from transxnet.data.reading.file_search import entries, is_image, list_folders, walk_images
from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.data.reading.packed_strings import PackedStrings, PathsBelow
from transxnet.utils.errors import UserError

ACCEPTED = (
    "a folder with one folder of images per class, such as photos/cat/*.jpg and photos/dog/*.jpg, optionally in "
    "train/, val/ and test/"
)


def find_class_folders(root: Path) -> Parts:
    """Find the training, validation and test set: folders of class folders; without any, the root is the training set.

    A folder of images without folders is a class, whatever its name: *train*, *valid* and *test* are names of classes
    too.

    Raises:
        UserError: the root does not exist or is not a folder, or two folders are for the same set.
    """
    if not root.exists():
        raise UserError(f"folder {root} does not exist. Accepted: {ACCEPTED}.")
    if not root.is_dir():
        raise UserError(f"{root} is a file. Accepted: {ACCEPTED}.")
    parts = part_folders(root / name for name in list_folders(root) if part_of(name) and list_folders(root / name))
    return parts if any(parts) else Parts(root)


def record_unused_folders(parts: Parts, findings: Findings) -> None:
    """Record the folders next to the sets, which may be classes or sets by another name."""
    root = next(part for part in parts if part is not None).parent
    if any(part is not None and part.parent == root and part_of(part.name) for part in parts):
        for name in list_folders(root):
            if root / name not in parts:
                findings.add(Problem.NOT_USED, f"{name}/, next to {', '.join(f'{p.name}/' for p in parts if p)}")


def read_class_folders(
    root: Path, findings: Findings | None = None, minimum: int = 1, extensions: Collection[str] = EXTENSIONS
) -> ClassificationSet:
    """Read all images below the class folders of ``root``, classes and images in a fixed order.

    Args:
        root: its subfolders are the classes, without hidden ones. Images may be nested deeper.
        findings: receives the files that are not used.
        minimum: minimum number of classes.
        extensions: extensions of images, in lower case.

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
    findings = Findings() if findings is None else findings
    for path in entries(root):
        if is_image(path.name, extensions) and path.is_file():
            findings.add(Problem.NOT_USED, f"{path.name}: outside the class folders")
    counts: list[int] = []
    names = PackedStrings(_names_in_classes(root, classes, counts, findings, extensions))
    labels = np.repeat(np.arange(len(classes)), counts)
    return ClassificationSet(FileImages(PathsBelow(str(root), names)), names, list(classes), labels)


def _names_in_classes(
    root: Path, classes: Sequence[str], counts: list[int], findings: Findings, extensions: Collection[str]
) -> Iterator[str]:
    """Iterate over image names below the root, class by class; append the number of images per class to the counts."""
    for name in classes:
        count, above = 0, len(os.path.join(root / name, ""))
        others: list[str] = []
        for path in walk_images(root / name, others.append, extensions):
            count += 1
            yield f"{name}/{path[above:]}"
        if not count:
            endings = Counter(os.path.splitext(path)[1] or os.path.basename(path) for path in others)
            found = ", ".join(f"{number} {ending}" for ending, number in endings.most_common(5)) or "no files"
            raise UserError(
                f"class folder {root / name} contains no images; found: {found}. Accepted: {', '.join(extensions)}. "
                "Convert the images, or move the folder out of the data."
            )
        for path in others:
            findings.add(Problem.NOT_USED, f"{name}/{path[above:]}: not an image by its extension")
        counts.append(count)
