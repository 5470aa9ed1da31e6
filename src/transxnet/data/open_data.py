"""Open the data for training or evaluation, in any format and for any task."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from transxnet.data.datasets.classification_dataset import ClassificationSet, TargetKind
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.formats.class_alignment import align_classes
from transxnet.data.formats.class_folders import read_class_folders
from transxnet.data.formats.coco import read_coco
from transxnet.data.formats.findings import Findings
from transxnet.data.formats.label_map_checks import read_label_maps
from transxnet.data.formats.label_table import TableOptions, read_label_table
from transxnet.data.formats.parts import Parts
from transxnet.data.formats.timm_readers import Stream, open_reader
from transxnet.data.formats.unreadable_images import drop_unreadable, drop_unusable
from transxnet.data.formats.voc import read_voc
from transxnet.data.recognize import ACCEPTED, FIND_PARTS, Recognition, recognize
from transxnet.data.samples.builtin_samples import DENSE_SAMPLES, SAMPLES, DenseSample, Sample
from transxnet.data.split import group_images, split_images
from transxnet.utils.errors import UserError

Progress = Callable[[int], AbstractContextManager[Callable[[int], Any]]]
"""Called with the number of images, shows a progress bar; yields a function that takes the number of checked images."""

TABLE_DEFAULTS = TableOptions()
"""Options of a label table of which everything is recognized."""

S = TypeVar("S", ClassificationSet | Stream, DetectionSet, SegmentationSet)


@dataclass(frozen=True)
class DataSource(Generic[S]):
    """Training and validation images.

    Attributes:
        train: training images.
        val: validation images, with the classes of ``train``.
        split_made: whether this package made the split, so that it must be stored with the run.
        recognition: the recognized format and task.
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

    @property
    def class_names(self) -> list[str]:
        """Class names, the same for both sets. Object labels start at 1, all others at 0."""
        return self.train.class_names


def open_data(
    data: str | Recognition,
    task: str | None = None,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    stored_split: Path | None = None,
    train_split: str = "train",
    val_split: str = "validation",
    num_classes: int | None = None,
    targets: TargetKind | None = None,
    table: TableOptions = TABLE_DEFAULTS,
    group_from: str | None = None,
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
        val_fraction: fraction of the images to validate on, if the folder has no validation set.
        seed: seed of that split.
        limit: largest number of images in each set; if there are more, they are taken at even distances.
        stored_split: file of an earlier split to use instead.
        train_split: training split of a timm reader.
        val_split: validation split of a timm reader.
        num_classes: number of classes, for timm readers that do not report it.
        targets: for classification, the kind of the labels; by default that of the data.
        table: columns of a label table.
        group_from: regular expression that finds in the images' names the groups that are not split; see
            :func:`~transxnet.data.split.group_images`.
        masks: also read the objects' masks.
        zero_is_ignored: for label maps; see :func:`~transxnet.data.formats.label_map_checks.read_label_maps`.
        check_images: decode every image and drop those that cannot be read. Label maps are always read, since they
            determine the classes.
        progress: called with the number of images checked.

    Raises:
        UserError: DATA has no known format, is not suitable for training, or too much of it cannot be used.
    """
    if not 0 < val_fraction < 1:
        raise UserError(f"val_fraction must be greater than 0 and less than 1, got {val_fraction}.")
    recognition = data if isinstance(data, Recognition) else recognize(data, task)
    progress = progress or _no_progress
    findings = Findings()
    sample = _sample(recognition)
    about: dict[str, Any] = {}
    notes: list[str] = []
    if sample is not None:
        about = dict(img_size=sample.img_size, hflip=sample.hflip)
        notes.append(f"License: {sample.license}")
    if recognition.format == "label table":
        (train, val, _), about_labels = read_label_table(
            _parts(recognition, None).train, table, targets, findings, minimum=2
        )
        notes += about_labels
    elif recognition.task == "classify":
        train, val = _read_classes(recognition, sample, (train_split, val_split), num_classes)
    else:
        train, val = _read_annotated(
            recognition, sample, findings, masks, zero_is_ignored, None, check_images, progress
        )
    notes += findings.notes()
    if train is None:
        raise UserError(
            f"{recognition.data} has a validation set but no training set. Accepted: {ACCEPTED[recognition.format]}."
        )
    if recognition.task == "classify":
        _check_targets(recognition.data, train, targets)
    if isinstance(train, DetectionSet):
        notes += _check_objects(recognition.data, train)
    made = val is None
    if group_from is not None:
        train = _group(train, val, group_from)
    if isinstance(sample, Sample):
        train, val = split_images(train, sample.val_fraction, seed, stored_split, sample.strata)
    elif made:
        train, val = split_images(train, val_fraction, seed, stored_split)
    else:
        val = _aligned(val, train.class_names)
    if limit is not None:
        train, val = (_evenly_spaced(images, limit) for images in (train, val))
    if recognition.task == "classify" and check_images:
        with progress(len(train) + len(val)) as advance:
            (train, val), dropped = drop_unreadable(train, val, progress=advance)
        notes += dropped
    return DataSource(train, val, made, recognition, findings, notes=notes, **about)


def open_evaluation_data(
    data: str | Recognition,
    class_names: list[str],
    task: str | None = None,
    *,
    split: str = "validation",
    targets: TargetKind | None = None,
    table: TableOptions = TABLE_DEFAULTS,
    masks: bool = False,
    zero_is_ignored: bool | None = None,
    by_number: bool = False,
    check_images: bool = True,
    progress: Progress | None = None,
) -> tuple[Any, list[str]]:
    """Open DATA to evaluate a model with the given classes: its validation set if it has one, else all of it.

    The other arguments are those of :func:`open_data`, and ``split`` of a timm reader. Data that does not know its
    classes, such as label maps without names and shards, gets the model's classes by index. With ``by_number`` this
    holds for any data, for models without class names.

    Returns:
        The data set, with the model's classes in their order, and messages for the user.

    Raises:
        UserError: as :func:`open_data`, or the classes differ from the model's.
    """
    recognition = data if isinstance(data, Recognition) else recognize(data, task)
    progress = progress or _no_progress
    findings = Findings()
    notes: list[str] = []
    if recognition.format == "reader":
        images: Any = open_reader(recognition.data, split, class_names)
    elif recognition.format == "sample":
        images = open_data(recognition, check_images=False).val
    elif recognition.format == "label table":
        parts, about_labels = read_label_table(_parts(recognition, None).train, table, targets, findings)
        images = next(part for part in (parts.val, parts.test, parts.train) if part is not None)
        notes += about_labels
    elif recognition.format == "class folders":
        train_folder, val_folder, _ = _parts(recognition, None)
        images = read_class_folders(val_folder or train_folder)
    else:
        sample = _sample(recognition)
        train, val = _read_annotated(
            recognition, sample, findings, masks, zero_is_ignored, class_names, check_images, progress
        )
        images = train if val is None else val
        notes += [] if sample is None else [f"License: {sample.license}"]
    notes += findings.notes()
    if recognition.task == "classify":
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


def _group(train: S, val: S | None, pattern: str) -> S:
    """Return the training images with groups, so that these are not split."""
    if isinstance(train, Stream) or val is not None:
        raise UserError(
            "--group-from needs images in files or in a sample, without a validation set of their own. Remove "
            "--group-from."
        )
    return group_images(train, pattern)


def _sample(recognition: Recognition) -> Sample | DenseSample | None:
    """Create or load the built-in sample if DATA names one."""
    if recognition.format == "sample":
        return SAMPLES[recognition.data]()
    if recognition.format != "reader" and recognition.parts is None:
        return DENSE_SAMPLES[recognition.data]()
    return None


def _parts(recognition: Recognition, sample: Sample | DenseSample | None) -> Parts:
    if isinstance(sample, DenseSample):
        return FIND_PARTS[recognition.format](sample.folder)
    assert recognition.parts is not None
    return recognition.parts


def _read_classes(
    recognition: Recognition, sample: Any, splits: tuple[str, str], num_classes: int | None
) -> tuple[Any, Any]:
    """Return the training set, and the validation set if there is one."""
    if recognition.format == "reader":
        numbers = None if num_classes is None else [str(i) for i in range(num_classes)]
        train, val = (open_reader(recognition.data, split, numbers) for split in splits)
        return train, val
    if recognition.format == "sample":
        return sample.images, None
    train_folder, val_folder, _ = _parts(recognition, None)
    if train_folder is None:
        root = val_folder.parent
        raise UserError(
            f"{root} contains {val_folder.name}/ but no train/. Accepted: {ACCEPTED['class folders']}, optionally in "
            f"train/ and val/. Add {root / 'train'}, or pass {val_folder} to split it."
        )
    train = read_class_folders(train_folder, minimum=2)
    return train, None if val_folder is None else read_class_folders(val_folder)


def _read_annotated(
    recognition: Recognition,
    sample: Sample | DenseSample | None,
    findings: Findings,
    masks: bool,
    zero_is_ignored: bool | None,
    class_names: list[str] | None,
    check_images: bool,
    progress: Progress,
) -> Sequence[Any]:
    """Return both sets, checked. A missing set is None; so is the training set if a model's classes are given."""
    parts: Sequence[Any] = _parts(recognition, sample)[:2]
    if class_names is not None and parts[1] is not None:
        parts = (None, parts[1])
    if recognition.format == "label maps":
        with progress(sum(part.count() for part in parts if part is not None)) as advance:
            sets: Sequence[Any] = read_label_maps(
                parts, findings, zero_is_ignored=zero_is_ignored, class_names=class_names, progress=advance
            )
        findings.refuse()
        return sets
    if recognition.format == "voc":
        if masks:
            raise UserError(f"{recognition.data} has boxes but no object masks. For boxes only, use --head retinanet.")
        sets = read_voc(parts, findings)
    else:
        assert recognition.format == "coco", recognition.format
        sets = [None if part is None else read_coco(part, findings, masks=masks) for part in parts]
    findings.refuse()  # before the images are checked, which may take long
    if check_images:
        with progress(sum(len(images) for images in sets if images is not None)) as advance:
            sets = drop_unusable(sets, findings, advance)
        findings.refuse()
    return sets


def _check_objects(data: str, images: DetectionSet) -> list[str]:
    """Return a note on classes without training objects; raise UserError if there are no objects at all."""
    present = set(np.concatenate(images.own_labels).tolist())
    if not present:
        raise UserError(f"{data} has no training objects in {len(images)} images. Check the annotation file.")
    names = [name for label, name in enumerate(images.class_names, 1) if label not in present]
    return [f"no training object has class {', '.join(map(repr, names))}"] if names else []


def _evenly_spaced(images: S, limit: int) -> S:
    """Return at most this many of the images, at even distances."""
    if isinstance(images, Stream):
        raise UserError(
            "--limit needs images in folders or annotation files; shards are read in order. Remove --limit."
        )
    if len(images) <= limit:
        return images
    return images.subset(np.linspace(0, len(images) - 1, limit).round().astype(np.int64))


def _no_progress(total: int) -> AbstractContextManager[Callable[[int], Any]]:
    return nullcontext(lambda done: None)
