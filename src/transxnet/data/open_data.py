"""Open the data for training or evaluation, in any format and for any task."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet, TargetKind
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import with_channels
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.formats.class_alignment import align_classes
from transxnet.data.formats.class_folders import read_class_folders
from transxnet.data.formats.exclusions import read_exclusions
from transxnet.data.formats.findings import Findings
from transxnet.data.formats.label_table import TableOptions, read_label_table
from transxnet.data.formats.map_dataset import read_map_dataset
from transxnet.data.formats.parts import Parts, choose_part
from transxnet.data.formats.timm_readers import Stream, open_reader
from transxnet.data.formats.unreadable_images import drop_unreadable
from transxnet.data.read_sets import Progress, check_objects, find_sample, locate_parts, read_annotated, read_classes
from transxnet.data.reading.pixels import extensions_for
from transxnet.data.recognize import ACCEPTED, Recognition, recognize
from transxnet.data.samples.builtin_samples import Sample
from transxnet.data.split import draw_fraction, group_and_describe, split_images, stored_test_set
from transxnet.utils.errors import UserError

TABLE_DEFAULTS = TableOptions()
"""Options of a label table of which everything is recognized."""

S = TypeVar("S", ClassificationSet | Stream, DetectionSet, SegmentationSet)


@dataclass(frozen=True)
class DataSource(Generic[S]):
    """Training, validation and test images.

    Attributes:
        train: training images.
        val: validation images, with the classes of ``train``.
        test: test images, with the classes of ``train``, or None. Nothing is chosen by them.
        tiles: tiles of the training images to train on instead, or None.
        split_made: whether this package made the split, so that it must be stored with the run.
        recognition: the recognized format and task.
        test_split_off: whether a stored split named the test images.
        undrawn: the sets before images were excluded and a fraction of the training images was drawn, or None.
        findings: problems found in annotations and label maps.
        img_size: suitable side of the images in pixels (detection: the shorter side), or None for the default.
        hflip: suitable probability of a horizontal flip; digits must not be mirrored.
        notes: messages for the user.
    """

    train: S
    val: S
    split_made: bool
    recognition: Recognition
    findings: Findings = field(default_factory=Findings)
    img_size: int | None = None
    hflip: float = 0.5
    notes: list[str] = field(default_factory=list)
    test: S | None = None
    tiles: S | None = None
    test_split_off: bool = False
    undrawn: Parts | None = None

    @property
    def train_items(self) -> S:
        """The training images, or the tiles that are cut from them."""
        return self.train if self.tiles is None else self.tiles

    @property
    def divided(self) -> dict[str, S]:
        """The sets that a split of one set of images made: train and val, and test if a stored split has it.

        Images that were excluded or not drawn are among them: they are excluded and drawn again from the stored split.
        """
        train, val, test = self.undrawn or (self.train, self.val, self.test)
        parts = {"train": train, "val": val}
        return parts | {"test": test} if self.test_split_off else parts

    @property
    def class_names(self) -> list[str]:
        """Class names, the same for all sets. Object labels start at 1, all others at 0."""
        return self.train.class_names

    def part(self, split: str | None = None) -> S:
        """Return the set "train", "validation" or "test"; by default the validation set.

        Raises:
            UserError: there is no such set.
        """
        if split in (None, "validation") and not len(self.val):
            raise UserError(
                f"the run has no validation set: it was trained on all images of {self.recognition.data} (val_fraction "
                "0). Name other labeled images as DATA."
            )
        return choose_part(Parts(self.train, self.val, self.test), split, self.recognition.data)


def open_data(
    data: str | Recognition,
    task: str | None = None,
    *,
    val_fraction: float = 0.2,
    train_fraction: float = 1.0,
    seed: int = 0,
    limit: int | None = None,
    stored_split: Path | None = None,
    train_split: str = "train",
    val_split: str = "validation",
    num_classes: int | None = None,
    targets: TargetKind | None = None,
    table: TableOptions = TABLE_DEFAULTS,
    group_from: str | None = None,
    exclude: str | Path | None = None,
    channels: int | None = None,
    masks: bool = False,
    zero_is_ignored: bool | None = None,
    check_images: bool = True,
    progress: Progress | None = None,
) -> DataSource:
    """Open DATA for training. Check the annotations, and each image once.

    Args:
        data: name of a sample, a timm reader name, a folder in one of the layouts that :func:`recognize` knows, or
            its result.
        task: "classify", "detect" or "segment"; by default the task that the data is for.
        val_fraction: fraction of the images to validate on, if the folder has no validation set; with 0 the validation
            set is empty.
        train_fraction: fraction of the training images to draw, see :func:`~transxnet.data.split.draw_fraction`.
        seed: seed of that split and of that draw.
        limit: largest number of images in each set; if there are more, they are taken at even distances.
        stored_split: file of an earlier split to use instead.
        train_split: training split of a timm reader.
        val_split: validation split of a timm reader.
        num_classes: number of classes, for timm readers that do not report it.
        targets: for classification, the kind of the labels; by default that of the data.
        table: columns of a label table.
        group_from: regular expression that finds the groups that are not split in the paths below the data folder; see
            :func:`~transxnet.data.split.group_images`.
        exclude: table of images not to use; see :func:`~transxnet.data.formats.exclusions.read_exclusions`. They
            are excluded after the split, so that the other images remain in their sets.
        channels: number of channels to read, with their stored values; None for RGB.
        masks: also read the objects' masks.
        zero_is_ignored: for label maps; see :func:`~transxnet.data.formats.label_map_checks.read_label_maps`.
        check_images: decode every image and drop those that cannot be read. Label maps are always read, since they
            determine the classes.
        progress: called with the number of images checked.

    Raises:
        UserError: DATA has no known format, is not suitable for training, or too much of it cannot be used.
    """
    if not 0 <= val_fraction < 1:
        raise UserError(f"val_fraction must be at least 0 and less than 1, got {val_fraction}.")
    recognition = data if isinstance(data, Recognition) else recognize(data, task)
    progress = progress or _no_progress
    findings = Findings()
    sample = find_sample(recognition, targets)
    about: dict[str, Any] = {}
    notes: list[str] = []
    if sample is not None:
        about = dict(img_size=sample.img_size, hflip=sample.hflip)
        notes.append(f"License: {sample.license}")
    train: Any
    if recognition.task == "classify":
        (train, val, test), about_labels = read_classes(
            recognition,
            sample,
            findings,
            (train_split, val_split),
            num_classes,
            targets,
            table,
            extensions_for(channels),
        )
        train, val, test = (with_channels(images, channels, recognition.data) for images in (train, val, test))
        notes += about_labels
    else:
        train, val, test = read_annotated(
            recognition,
            locate_parts(recognition, sample),
            findings,
            masks=masks,
            zero_is_ignored=zero_is_ignored,
            class_names=None,
            channels=channels,
            check_images=check_images,
            progress=progress,
        )
    notes += findings.notes()
    if train is None:
        raise UserError(
            f"{recognition.data} has a {'test' if val is None else 'validation'} set but no training set. Accepted: "
            f"{ACCEPTED[recognition.format]}."
        )
    if recognition.task == "classify":
        _check_targets(recognition.data, train, targets)
    if isinstance(train, DetectionSet):
        notes += check_objects(recognition.data, train)
    made = val is None
    val, test = (None if images is None else _aligned(images, train.class_names) for images in (val, test))
    exclusions = None if exclude is None else read_exclusions(exclude)
    absent = () if exclusions is None else exclusions.all_names
    if group_from is not None:
        train, described = _group(train, val, group_from)
        notes += described
    whole, off = train, None
    if stored_split is not None and not made:
        raise UserError(
            f"{recognition.data} has a validation set, so {stored_split} cannot split it. Remove --split-file, or name "
            "the training images only."
        )
    if stored_split is not None:
        off = stored_test_set(whole, stored_split, absent)
    if isinstance(sample, Sample):
        fraction = sample.val_fraction if val_fraction else 0.0
        train, val = split_images(train, fraction, seed, stored_split, sample.strata[train.indices], absent)
    elif made:
        train, val = split_images(train, val_fraction, seed, stored_split, absent=absent)
    test = test if off is None else off
    undrawn = Parts(train, val, test) if exclusions is not None or train_fraction < 1 else None
    if exclusions is not None:
        (train, val, test), excluded = exclusions.apply((train, val, test), may_be_absent=stored_split is not None)
        notes.append(excluded)
    if train_fraction < 1:
        strata = sample.strata[train.indices] if isinstance(sample, Sample) else None
        drawn = draw_fraction(train, train_fraction, seed, strata)
        notes.append(f"train_fraction {train_fraction:g}: {len(drawn):,} of {len(train):,} training images are used")
        train = drawn
    sets: list[Any] = [train, val, test]
    if limit is not None:
        sets = [None if images is None else _evenly_spaced(images, limit) for images in sets]
    if recognition.task == "classify" and check_images:
        with progress(sum(len(images) for images in sets if images is not None)) as advance:
            sets, dropped = drop_unreadable(*sets, progress=advance)
        notes += dropped
    train, val, test = sets
    return DataSource(
        train, val, made, recognition, findings, notes=notes, test=test, test_split_off=off is not None,
        undrawn=undrawn, **about,
    )  # fmt: skip


def open_dataset(
    dataset: Any,
    *,
    val_fraction: float,
    seed: int,
    limit: int | None,
    stored_split: Path | None,
    train_fraction: float = 1.0,
) -> DataSource[ClassificationSet | Stream]:
    """Open a data set in Python, or a pair of them for training and validation.

    Args:
        dataset: see :func:`~transxnet.data.formats.map_dataset.read_map_dataset`.
        val_fraction: fraction of the images to validate on, unless there is a pair.
        seed: seed of that split.
        limit: largest number of images in each set.
        stored_split: file of an earlier split to use instead.
        train_fraction: fraction of the training images to draw.

    Raises:
        UserError: the items are not images with class indices.
    """
    made = not isinstance(dataset, tuple)
    first = dataset if made else dataset[0]
    train, test = read_map_dataset(first), None
    if made:
        test = None if stored_split is None else stored_test_set(train, stored_split)
        train, val = split_images(train, val_fraction, seed, stored_split)
    else:
        val = read_map_dataset(dataset[1], train.class_names)
    undrawn = None
    if train_fraction < 1:
        undrawn, train = Parts(train, val, test), draw_fraction(train, train_fraction, seed)
    if limit is not None:
        train, val = (images.subset(_even_positions(len(images), limit)) for images in (train, val))
    about = Recognition(type(first).__name__, "dataset", "classify", "it is passed in Python")
    return DataSource(train, val, made, about, test=test, test_split_off=test is not None, undrawn=undrawn)


def open_evaluation_data(
    data: str | Recognition,
    class_names: list[str],
    task: str | None = None,
    *,
    split: str | None = None,
    targets: TargetKind | None = None,
    table: TableOptions = TABLE_DEFAULTS,
    channels: int | None = None,
    masks: bool = False,
    zero_is_ignored: bool | None = None,
    by_number: bool = False,
    check_images: bool = True,
    progress: Progress | None = None,
) -> tuple[Any, list[str]]:
    """Open one set of DATA to evaluate a model with the given classes.

    ``split`` is "train", "validation" or "test", or a split of a timm reader; by default the validation set if there is
    one, else the test set, else all images. The other arguments are those of :func:`open_data`. Data that does not know
    its classes, such as label maps without names and shards, gets the model's classes by index. With ``by_number`` this
    holds for any data, for models without class names.

    Returns:
        The data set, with the model's classes in their order, and messages for the user.

    Raises:
        UserError: as :func:`open_data`, there is no such set, or the classes differ from the model's.
    """
    recognition = data if isinstance(data, Recognition) else recognize(data, task)
    progress = progress or _no_progress
    findings = Findings()
    notes: list[str] = []
    if recognition.format == "reader":
        images: Any = open_reader(recognition.data, split or "validation", class_names)
    elif recognition.format == "sample":
        images = open_data(recognition, targets=targets, check_images=False).part(split)
    elif recognition.format == "label table":
        parts, about_labels = read_label_table(locate_parts(recognition).train, table, targets, findings)
        images = choose_part(parts, split, recognition.data)
        notes += about_labels
    elif recognition.format == "class folders":
        folder = choose_part(locate_parts(recognition), split, recognition.data)
        images = read_class_folders(folder, findings, extensions=extensions_for(channels))
    else:
        sample = find_sample(recognition)
        part = choose_part(locate_parts(recognition, sample), split, recognition.data)
        (images,) = read_annotated(
            recognition,
            [part],
            findings,
            masks=masks,
            zero_is_ignored=zero_is_ignored,
            class_names=class_names,
            channels=channels,
            check_images=check_images,
            progress=progress,
        )
        notes += [] if sample is None else [f"License: {sample.license}"]
    notes += findings.notes()
    if recognition.task == "classify":
        images = with_channels(images, channels, recognition.data)
        _check_targets(recognition.data, images, targets)
    if (by_number or isinstance(images, Stream)) and len(images.class_names) != len(class_names):
        raise UserError(
            f"{recognition.data} has {len(images.class_names)} classes, but the model has {len(class_names)}."
        )
    if not by_number:
        images = _aligned(images, class_names)
    if recognition.task == "classify" and check_images:
        with progress(len(images)) as advance:
            (images,), dropped = drop_unreadable(images, progress=advance)
        notes += dropped
    return images, notes


def _check_targets(data: str, images: ClassificationSet | Stream, targets: TargetKind | None) -> None:
    """Raise UserError unless the labels are of this kind."""
    if targets not in (None, images.targets):
        raise UserError(
            f"the labels of {data} are {images.targets}, got targets {targets}. Use data with labels of this kind."
        )


def _aligned(images: Any, class_names: list[str]) -> Any:
    """The same images with these classes, matched by name; the one name of values to regress may differ."""
    regression = isinstance(images, ClassificationSet) and images.targets == "regression"
    return images.with_classes(class_names, [] if regression else align_classes(class_names, images.class_names))


def _group(train: S, val: S | None, pattern: str) -> tuple[S, list[str]]:
    """Return the training images with groups, so that these are not split, and a description of the groups."""
    if isinstance(train, Stream) or val is not None:
        raise UserError(
            "--group-from needs images in files or in a sample, without a validation set of their own. Remove "
            "--group-from."
        )
    return group_and_describe(train, pattern)


def _evenly_spaced(images: S, limit: int) -> S:
    """Return at most this many of the images, at even distances."""
    if isinstance(images, Stream):
        raise UserError(
            "--limit needs images in folders or annotation files; shards are read in order. Remove --limit."
        )
    return images.subset(_even_positions(len(images), limit))


def _even_positions(count: int, limit: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64)


def _no_progress(total: int) -> AbstractContextManager[Callable[[int], Any]]:
    return nullcontext(lambda done: None)
