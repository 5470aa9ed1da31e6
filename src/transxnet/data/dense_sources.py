"""What kind of data DATA is, and opening it for detection or segmentation."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from transxnet.data.coco import read_coco
from transxnet.data.coco_folders import find_coco
from transxnet.data.detection_set import DetectionSet
from transxnet.data.findings import Findings, Problem
from transxnet.data.images import UnreadableImage
from transxnet.data.label_map_checks import read_label_maps
from transxnet.data.label_maps import find_label_maps
from transxnet.data.labels import align_classes
from transxnet.data.photographs import FULL_UP_TO, look_at_each, upright_size
from transxnet.data.recognize import ACCEPTED, Recognition, recognise
from transxnet.data.samples import DENSE_SAMPLES, is_sample
from transxnet.data.segmentation_set import SegmentationSet
from transxnet.data.split import read_split, stratified_split
from transxnet.data.voc import find_voc, read_voc
from transxnet.utils.errors import UserError, check_one_of

Progress = Callable[[int], AbstractContextManager[Callable[[int], Any]]]
"""Given a number of images, shows a bar while they are looked at; gives a function that takes how many are done."""

S = TypeVar("S", DetectionSet, SegmentationSet)


@dataclass(frozen=True)
class DenseSource(Generic[S]):
    """Photographs with objects or label maps, to train on and held out.

    Attributes:
        recognition: what the data is.
        train: to train on.
        val: held out, with the classes of ``train``.
        split_made: whether the split is ours, and so must be stored with the run.
        findings: what was wrong with the data.
        img_size: shorter side in pixels that suits the photographs, or None where nothing speaks for one.
        hflip: probability of a left-right flip that suits them; digits must not be mirrored.
        notes: sentences that the user should read.
    """

    recognition: Recognition
    train: S
    val: S
    split_made: bool
    findings: Findings
    img_size: int | None = None
    hflip: float = 0.5
    notes: list[str] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """The classes, the same for both parts: those of objects are labelled from 1, those of label maps from 0."""
        return self.train.class_names


def open_dense_source(
    data: str,
    task: str | None = None,
    *,
    masks: bool = False,
    zero_is_ignored: bool | None = None,
    val_fraction: float = 0.2,
    seed: int = 0,
    stored_split: Path | None = None,
    look: bool = True,
    progress: Progress | None = None,
) -> DenseSource:
    """Open DATA to train a detector or a segmenter; all of it is checked, each file once.

    Args:
        data: the sample ``scenes``, or a folder in one of the layouts that :func:`recognise` knows.
        task: "detect" or "segment"; None takes what the data is for.
        masks: read the objects' masks as well.
        zero_is_ignored: of label maps; see :func:`~transxnet.data.label_map_checks.read_label_maps`.
        val_fraction: share to hold out of data without a held-out part.
        seed: of that split.
        stored_split: file of an earlier split to use instead of drawing one.
        look: decode every photograph of a detector's data; without, those that can't be read stay in. A segmenter's
            data is looked at in any case, since its label maps say which classes there are.
        progress: shows how far the looking at the photographs has come.

    Raises:
        UserError: DATA is none of these, holds what :class:`Problem` says is refused, or too much of it can't be used.
    """
    if not 0 < val_fraction < 1:
        raise UserError(f"val_fraction must lie between 0 and 1, got {val_fraction}.")
    recognition, root, about = _locate(data, task)
    findings = Findings()
    train, val = _read(recognition, root, findings, masks, zero_is_ignored, None, look, progress)
    if train is None:
        raise UserError(
            f"{data} holds a part to evaluate on and none to train on. Accepted: {ACCEPTED[recognition.format]}."
        )
    if isinstance(train, DetectionSet) and not any(map(len, train.own_labels)):
        raise UserError(
            f"{data} holds no object to train on in {len(train)} images. Is this the right annotation file?"
        )
    notes = about["notes"] + findings.notes() + _unused(train)
    if val is None:
        parts, made = _split(train, val_fraction, seed, stored_split), True
    else:
        aligned = align_classes(train.class_names, val.class_names)
        offset = int(isinstance(val, DetectionSet))
        parts, made = (train, val.relabelled(train.class_names, [i + offset for i in aligned])), False
    return DenseSource(recognition, *parts, made, findings, about["img_size"], about["hflip"], notes)


def open_dense_evaluation(
    data: str,
    class_names: list[str],
    task: str | None = None,
    *,
    masks: bool = False,
    zero_is_ignored: bool | None = None,
    by_number: bool = False,
    look: bool = True,
    progress: Progress | None = None,
) -> tuple[DetectionSet | SegmentationSet, list[str]]:
    """Open DATA to evaluate a model of these classes: its held-out part where it has one, else all of it.

    The arguments are those of :func:`open_dense_source`. Label maps without names are taken for the model's classes by
    number; with ``by_number`` so is any data, for a model that has no names for its classes.

    Returns:
        The set, with the model's classes in their order, and sentences that the user should read.

    Raises:
        UserError: as :func:`open_dense_source`, or the classes are not those of the model.
    """
    recognition, root, about = _locate(data, task)
    findings = Findings()
    sets = _read(recognition, root, findings, masks, zero_is_ignored, class_names, look, progress)
    train, val = sets
    images = val if val is not None else train
    assert images is not None
    notes = about["notes"] + findings.notes()
    if by_number:
        if len(images.class_names) != len(class_names):
            raise UserError(f"{data} has {len(images.class_names)} classes, and the model {len(class_names)}.")
        return images, notes
    offset = int(isinstance(images, DetectionSet))
    labels = [i + offset for i in align_classes(class_names, images.class_names)]
    return images.relabelled(class_names, labels), notes


def _locate(data: str, task: str | None) -> tuple[Recognition, Path, dict[str, Any]]:
    """What DATA is, its folder, and what a sample says of itself."""
    if task is not None:
        check_one_of(("detect", "segment"), task=task)
    recognition = recognise(data, task)
    if recognition.task == "classify":
        raise UserError(
            f"{data} is for classification: {recognition.why}. Accepted for detection: {ACCEPTED['coco']}; "
            f"{ACCEPTED['voc']}. Accepted for segmentation: {ACCEPTED['label maps']}."
        )
    if is_sample(data, DENSE_SAMPLES):
        sample = DENSE_SAMPLES[data]()
        notes = [f"Licence: {sample.licence}"]
        return recognition, sample.folder, dict(notes=notes, img_size=sample.img_size, hflip=sample.hflip)
    return recognition, Path(data), dict(notes=[], img_size=None, hflip=0.5)


def _read(
    recognition: Recognition,
    root: Path,
    findings: Findings,
    masks: bool,
    zero_is_ignored: bool | None,
    class_names: list[str] | None,
    look: bool,
    progress: Progress | None,
) -> Sequence[Any]:
    """Both parts, checked: None for what there is not, and for what the evaluation of a model's classes leaves out."""
    progress = progress or _silent
    wanted: Callable[[Sequence[Any]], Sequence[Any]] = tuple if class_names is None else _held_out
    if recognition.format == "label maps":
        maps = wanted(find_label_maps(root))
        with progress(sum(part.count() for part in maps if part is not None)) as advance:
            read = read_label_maps(
                maps, findings, zero_is_ignored=zero_is_ignored, class_names=class_names, progress=advance
            )
        findings.refuse()
        return read
    if recognition.format == "voc":
        if masks:
            raise UserError(f"{root} has boxes and no masks of objects. Train a detector of boxes: --head retinanet.")
        sets = read_voc(wanted(find_voc(root)), findings)
    else:
        train, val = wanted(find_coco(root))
        sets = (
            None if train is None else read_coco(train, findings, masks=masks),
            None if val is None else read_coco(val, findings, masks=masks),
        )
    findings.refuse()  # before the photographs are looked at, which may take long
    if not look:
        return sets
    with progress(sum(len(images) for images in sets if images is not None)) as advance:
        sets = _without_unreadable(sets, findings, advance)
    findings.refuse()
    return sets


def _held_out(parts: Sequence[Any]) -> Sequence[Any]:
    """The held-out part alone, where there is one."""
    return parts if parts[1] is None else (None, parts[1])


def _without_unreadable(
    sets: Sequence[DetectionSet | None], findings: Findings, advance: Callable[[int], Any]
) -> tuple[DetectionSet | None, DetectionSet | None]:
    """Both parts without the photographs that can't be read or are of another size than their annotations say."""
    done = 0
    kept: list[DetectionSet | None] = []
    for images in sets:
        if images is None:
            kept.append(None)
            continue
        readable = []
        for position, fault in enumerate(look_at_each(len(images), partial(_fault, images, len(images) <= FULL_UP_TO))):
            if fault is None:
                readable.append(position)
            else:
                findings.add(fault[0], f"{images.name(position)}: {fault[1]}")
            done += 1
            advance(done)
        kept.append(images if len(readable) == len(images) else images.subset(np.array(readable, int)))
    return kept[0], kept[1]


def _fault(images: DetectionSet, full: bool, position: int) -> tuple[Problem, str] | None:
    try:
        size = upright_size(images.path(position), full)
    except UnreadableImage as error:
        return Problem.IMAGE_UNREADABLE, str(error)
    said = tuple(images.own_sizes[position].tolist())
    if size == said:
        return None
    turned = "; are they those of the file before it is turned upright?" if size == said[::-1] else ""
    return Problem.IMAGE_SIZE, f"the file has {size[1]}x{size[0]} pixels, its annotations {said[1]}x{said[0]}{turned}"


def _split(images: S, fraction: float, seed: int, stored: Path | None) -> tuple[S, S]:
    """A part to train on and a part held out: of objects, with each image's rarest class balanced."""
    if stored is not None:
        parts = read_split(stored, images.own_names)
        return images.subset(parts["train"]), images.subset(parts["val"])
    train, val = stratified_split(_strata(images), fraction, seed)
    if not len(val):
        train, val = stratified_split(np.zeros(len(images), int), fraction, seed)
    if not len(val):
        raise UserError(f"there is {len(images)} image, so none can be held out. Accepted: two or more.")
    return images.subset(train), images.subset(val)


def _strata(images: DetectionSet | SegmentationSet) -> np.ndarray:
    if isinstance(images, SegmentationSet):
        return np.zeros(len(images), int)
    labels = images.own_labels
    counts = np.bincount(np.concatenate([[0], *labels]).astype(int), minlength=len(images.class_names) + 1)
    return np.array([int(own[counts[own].argmin()]) if len(own) else 0 for own in labels])


def _unused(images: DetectionSet | SegmentationSet) -> list[str]:
    """A note about classes that nothing can be learnt of."""
    if isinstance(images, SegmentationSet):
        return []
    present = set(np.concatenate(images.own_labels).tolist())
    names = [name for label, name in enumerate(images.class_names, 1) if label not in present]
    return [f"no object to train on is of class {', '.join(map(repr, names))}"] if names else []


def _silent(total: int) -> AbstractContextManager[Callable[[int], Any]]:
    return nullcontext(lambda done: None)
