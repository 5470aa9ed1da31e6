"""Read the training, validation and test set of DATA in its format."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from transxnet.data.datasets.classification_dataset import TargetKind
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.formats.class_folders import read_class_folders, record_unused_folders
from transxnet.data.formats.coco import read_coco
from transxnet.data.formats.findings import Findings
from transxnet.data.formats.label_map_checks import read_label_maps
from transxnet.data.formats.label_table import TableOptions, read_label_table
from transxnet.data.formats.parts import Parts
from transxnet.data.formats.timm_readers import open_reader
from transxnet.data.formats.unlabeled_images import read_unlabeled_images
from transxnet.data.formats.unreadable_images import drop_unusable
from transxnet.data.formats.voc import read_voc
from transxnet.data.formats.yolo import read_yolo
from transxnet.data.recognize import ACCEPTED, FIND_PARTS, Recognition
from transxnet.data.samples.builtin_samples import DENSE_SAMPLES, SAMPLES, DenseSample, Sample
from transxnet.utils.errors import UserError

Progress = Callable[[int], AbstractContextManager[Callable[[int], Any]]]
"""Called with the number of images, shows a progress bar; yields a function that takes the number of checked images."""


def find_sample(recognition: Recognition, targets: TargetKind | None = None) -> Sample | DenseSample | None:
    """Create or load the built-in sample if DATA names one."""
    if recognition.format == "sample":
        return SAMPLES[recognition.data](targets)
    if recognition.format != "reader" and recognition.parts is None:
        return DENSE_SAMPLES[recognition.data]()
    return None


def locate_parts(recognition: Recognition, sample: Sample | DenseSample | None = None) -> Parts:
    """Return the locations of the sets of a folder, file or sample."""
    if isinstance(sample, DenseSample):
        return FIND_PARTS[recognition.format](sample.folder)
    assert recognition.parts is not None
    return recognition.parts


def read_classes(
    recognition: Recognition,
    sample: Any,
    findings: Findings,
    splits: tuple[str, str],
    num_classes: int | None,
    targets: TargetKind | None,
    table: TableOptions,
    extensions: Collection[str],
) -> tuple[Parts, list[str]]:
    """Read the sets of data with classes, labels or values for each image.

    Args:
        recognition: format of the data.
        sample: the built-in sample that it names, or None.
        findings: receives the problems.
        splits: training and validation split of a timm reader.
        num_classes: number of classes, for timm readers that do not report it.
        targets: the kind of the labels of a table; None for the one that is recognized.
        table: columns of a label table.
        extensions: extensions of the images in class folders, in lower case.

    Returns:
        The sets, None for missing ones, and notes for the user.

    Raises:
        UserError: the data cannot be read, or has fewer than two classes.
    """
    if recognition.format == "reader":
        numbers = None if num_classes is None else [str(i) for i in range(num_classes)]
        return Parts(*(open_reader(recognition.data, split, numbers) for split in splits)), []
    if recognition.format == "sample":
        return Parts(sample.images), []
    if recognition.format == "label table":
        return read_label_table(locate_parts(recognition).train, table, targets, findings, minimum=2)
    train_folder, *others = locate_parts(recognition)
    if train_folder is None:
        other = next(folder for folder in others if folder is not None)
        raise UserError(
            f"{other.parent} contains {other.name}/ but no train/. Accepted: {ACCEPTED['class folders']}. "
            f"Add {other.parent / 'train'}, or pass {other} to split it."
        )
    record_unused_folders(locate_parts(recognition), findings)
    if recognition.format == "images":
        return Parts(*(folder and read_unlabeled_images(folder) for folder in (train_folder, *others))), []
    training = read_class_folders(train_folder, findings, minimum=2, extensions=extensions)
    val, test = (
        None if folder is None else read_class_folders(folder, findings, extensions=extensions) for folder in others
    )
    return Parts(training, val, test), []


def read_annotated(
    recognition: Recognition,
    parts: Sequence[Any],
    findings: Findings,
    *,
    masks: bool,
    zero_is_ignored: bool | None,
    class_names: list[str] | None,
    channels: int | None,
    check_images: bool,
    progress: Progress,
) -> Sequence[Any]:
    """Read and check sets with boxes, masks or label maps.

    Args:
        recognition: format of the data.
        parts: locations of the sets; None for missing ones.
        findings: receives the problems.
        masks: also read the objects' masks.
        zero_is_ignored: for label maps; see :func:`~transxnet.data.formats.label_map_checks.read_label_maps`.
        class_names: for label maps, the model's classes to evaluate, or None.
        channels: number of channels to read, with their stored values; None for RGB.
        check_images: decode the images with boxes, and drop those that cannot be used.
        progress: shows the progress of checking.

    Returns:
        The sets; None for missing ones.

    Raises:
        UserError: the data cannot be read, or too much of it cannot be used.
    """
    if recognition.format == "label maps":
        with progress(sum(part.count(channels) for part in parts if part is not None)) as advance:
            sets: Sequence[Any] = read_label_maps(
                parts,
                findings,
                zero_is_ignored=zero_is_ignored,
                class_names=class_names,
                channels=channels,
                progress=advance,
            )
        findings.refuse()
        return sets
    if recognition.format == "voc":
        if masks:
            raise UserError(f"{recognition.data} has boxes but no object masks. For boxes only, use --head retinanet.")
        sets = read_voc(parts, findings, channels)
    elif recognition.format == "yolo":
        sets = read_yolo(parts, findings, masks=masks, channels=channels)
    else:
        assert recognition.format == "coco", recognition.format
        sets = [None if part is None else read_coco(part, findings, masks=masks, channels=channels) for part in parts]
    findings.refuse()  # before the images are checked, which may take long
    if check_images:
        with progress(sum(len(images) for images in sets if images is not None)) as advance:
            sets = drop_unusable(sets, findings, advance)
        findings.refuse()
    return sets


def check_objects(data: str, images: DetectionSet) -> list[str]:
    """Return a note on classes without training objects; raise UserError if there are no objects at all."""
    present = set(np.concatenate(images.own_labels).tolist())
    if not present:
        ignored = f" All {len(images.objects.crowd)} are marked iscrowd or difficult, so training ignores them."
        raise UserError(
            f"{data} has no training objects in {len(images)} images.{ignored if len(images.objects.crowd) else ''} "
            "Check the annotation file."
        )
    names = [name for label, name in enumerate(images.class_names, 1) if label not in present]
    return [f"no training object has class {', '.join(map(repr, names))}"] if names else []
