"""What DATA on the command line means: a sample's name, a folder of class folders, or a timm reader's name."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from transxnet.data.folders import ACCEPTED, find_parts, read_class_folders
from transxnet.data.image_set import ImageSet
from transxnet.data.labels import align_classes
from transxnet.data.readers import PREFIXES, Stream, is_reader_name, open_reader
from transxnet.data.samples import SAMPLES, is_sample
from transxnet.data.split import read_split, stratified_split
from transxnet.utils.errors import UserError, nearest

MAX_UNREADABLE = 0.05
"""Share of unreadable images above which a data set is refused: something is wrong with all of it."""


@dataclass(frozen=True)
class Source:
    """Images to train on and images held out.

    Attributes:
        train: images to train on.
        val: images held out.
        split_made: whether the split is ours, and so must be stored with the run.
        img_size: size in pixels that suits the images, or None where nothing speaks for one.
        hflip: probability of a left-right flip that suits them; digits must not be mirrored.
        notes: sentences that the user should read.
    """

    train: ImageSet | Stream
    val: ImageSet | Stream
    split_made: bool
    img_size: int | None = None
    hflip: float = 0.5
    notes: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """The classes by index, the same for both parts."""
        return self.train.class_names


def open_source(
    data: str,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    stored_split: Path | None = None,
    train_split: str = "train",
    val_split: str = "validation",
    num_classes: int | None = None,
) -> Source:
    """Open DATA for training.

    Args:
        data: a sample's name, a folder, or a timm reader name.
        val_fraction: share to hold out of a folder without ``val/``.
        seed: of the split.
        stored_split: file of an earlier split to use instead of drawing one.
        train_split: split of a timm reader to train on.
        val_split: split of a timm reader to validate on.
        num_classes: for timm readers that do not know their classes.

    Raises:
        UserError: DATA is none of these, or is not fit to train on.
    """
    if is_reader_name(data):
        numbers = None if num_classes is None else [str(i) for i in range(num_classes)]
        train = open_reader(data, train_split, numbers)
        return Source(train, open_reader(data, val_split, numbers), split_made=False)
    if is_sample(data, SAMPLES):
        sample = SAMPLES[data]()
        return replace(
            _split(sample.images, sample.strata, sample.val_fraction, seed, stored_split),
            img_size=sample.img_size,
            hflip=sample.hflip,
            notes=[f"Licence: {sample.licence}"],
        )
    root = _existing(data)
    train_folder, val_folder = find_parts(root)
    if val_folder is not None and train_folder is None:
        raise UserError(
            f"{root} holds {val_folder.name}/ and no train/. Accepted: {ACCEPTED}, with or without train/ and val/ "
            f"above them. Add {root / 'train'}, or give {val_folder} to train on a part of that."
        )
    train = read_class_folders(train_folder or root, minimum=2)
    if val_folder is None:
        return _split(train, train.labels, val_fraction, seed, stored_split)
    val = read_class_folders(val_folder)
    index = np.array(align_classes(train.class_names, val.class_names))
    return Source(train, replace(val, labels=index[val.labels], class_names=train.class_names), split_made=False)


def open_evaluation(data: str, class_names: list[str], split: str = "validation") -> ImageSet | Stream:
    """Open DATA to evaluate a model of these classes: its ``val/`` where there is one, else all of it.

    Of data that does not know its classes, as shards do not, the labels are taken for the model's.

    Raises:
        UserError: DATA cannot be opened, or its classes are not those of the model.
    """
    if is_reader_name(data):
        images = open_reader(data, split, class_names)
        if isinstance(images, Stream):
            _check_order(data, images.class_names, class_names)
            return replace(images, class_names=class_names)
    elif is_sample(data, SAMPLES):
        held_out = open_source(data).val
        assert isinstance(held_out, ImageSet)
        images = held_out
    else:
        root = _existing(data)
        train_folder, val_folder = find_parts(root)
        images = read_class_folders(val_folder or train_folder or root)
    index = np.array(align_classes(class_names, images.class_names))
    return replace(images, labels=index[images.labels], class_names=class_names)


def without_unreadable(
    *parts: ImageSet | Stream, progress: Callable[[int], None] | None = None
) -> tuple[list[ImageSet | Stream], list[str]]:
    """The parts of a data set without the images that can't be read, and sentences naming them.

    Args:
        *parts: judged together, so that one bad file in a small held-out part is no calamity; the first is what the
            classes are learnt from.
        progress: called with the number of images looked at.

    Raises:
        UserError: more than 5% of all images, or all of a class in the first part.
    """
    kept: list[ImageSet | Stream] = []
    names: list[str] = []
    lost: set[int] = set()
    done = 0
    for images in parts:
        if isinstance(images, Stream):
            kept.append(images)
            continue
        found = images.find_unreadable(progress=None if progress is None else partial(_shifted, progress, done))
        done += len(images)
        names += [f"{images.name(i)}: {why}" for i, why in found.items()]
        readable = images.subset(np.setdiff1d(np.arange(len(images)), list(found))) if found else images
        kept.append(readable)
        if images is parts[0]:
            lost = set(images.own_labels.tolist()) - set(readable.own_labels.tolist())
    if not names:
        return kept, []
    listed = "\n  ".join(names[:10]) + (f"\n  and {len(names) - 10} more" if len(names) > 10 else "")
    if lost:
        classes = ", ".join(repr(parts[0].class_names[c]) for c in sorted(lost))
        raise UserError(f"no image can be read of the class {classes}:\n  {listed}\nRepair them, or remove the class.")
    if len(names) > MAX_UNREADABLE * done:
        raise UserError(
            f"{len(names)} of {done} images can't be read, more than {MAX_UNREADABLE:.0%}:\n  {listed}\n"
            "Repair or remove them, or check that this is the right folder."
        )
    return kept, [f"{len(names)} unreadable images are left out: {'; '.join(names)}"]


def _shifted(progress: Callable[[int], None], before: int, count: int) -> None:
    progress(before + count)


def _split(images: ImageSet, strata: np.ndarray, fraction: float, seed: int, stored: Path | None) -> Source:
    if stored is not None:
        parts = read_split(stored, images.own_names)
        return Source(images.subset(parts["train"]), images.subset(parts["val"]), split_made=True)
    if not 0 < fraction < 1:
        raise UserError(f"val_fraction must lie between 0 and 1, got {fraction}.")
    train, val = stratified_split(strata, fraction, seed)
    if not len(val):
        raise UserError("every class holds a single image, so none can be held out. Accepted: two or more a class.")
    return Source(images.subset(train), images.subset(val), split_made=True)


def _check_order(data: str, classes: list[str], model_classes: list[str]) -> None:
    """The labels of a stream are used as they come, so its classes must be the model's and in the model's order."""
    if len(classes) != len(model_classes):
        raise UserError(f"{data} has {len(classes)} classes, the model {len(model_classes)}. Train on this data.")
    if align_classes(model_classes, classes) != list(range(len(classes))):
        raise UserError(f"{data} has the model's classes in another order, {classes[0]!r} first. Train on this data.")


def _existing(data: str) -> Path:
    path = Path(data)
    if not os.path.exists(data):
        raise UserError(
            f"there is no folder and no sample {data!r}.{nearest(data, SAMPLES)} Accepted: {ACCEPTED}; a sample "
            f"({', '.join(SAMPLES)}); or a timm reader name ({', '.join(p + '/...' for p in PREFIXES)})."
        )
    return path
