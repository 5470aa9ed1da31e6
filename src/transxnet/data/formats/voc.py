"""Pascal VOC annotations: one XML file with boxes for each image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.class_names import read_class_names
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.object_checks import ObjectCollector
from transxnet.data.formats.parts import Parts
from transxnet.data.reading.file_search import list_images
from transxnet.data.reading.image_decoding import MAX_PIXELS, UnreadableImage, upright_size
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_text, read_xml

ACCEPTED = (
    "a folder with Annotations/*.xml, JPEGImages/ and, for a predefined split, ImageSets/Main/train.txt and val.txt "
    "(or trainval.txt and test.txt)"
)

_SPLITS = (("train", "val"), ("trainval", "test"), ("train", "test"), ("trainval", "val"))
"""Pairs of lists for training and validation; the first pair that exists is used."""


@dataclass(frozen=True)
class VocPart:
    """The training or validation set: its folder, and its images by file name without extension."""

    root: Path
    stems: list[str]


def find_voc(root: Path) -> Parts:
    """Find the training and validation set in a folder with Pascal VOC's layout; None for a missing set.

    The root may contain ``VOCdevkit/VOC2012``, or another single year.
    """
    folder = voc_folder(root)
    if folder is None or not any((folder / "Annotations").glob("*.xml")):
        return Parts()
    train, val, _ = voc_lists(folder / "ImageSets" / "Main")
    if train is None and val is None:
        train = sorted(file.stem for file in (folder / "Annotations").glob("*.xml"))
    return Parts(*(None if stems is None else VocPart(folder, stems) for stems in (train, val)))


def voc_folder(root: Path) -> Path | None:
    """The folder that holds ``JPEGImages/``: the root, or the only year below it.

    Raises:
        UserError: there are several years.
    """
    if (root / "JPEGImages").is_dir():
        return root
    years = sorted(
        folder.parent for pattern in ("VOC*/JPEGImages", "VOCdevkit/VOC*/JPEGImages") for folder in root.glob(pattern)
    )
    if len(years) > 1:
        raise UserError(
            f"{root} contains several years: {', '.join(year.name for year in years)}. Pass one of them as DATA."
        )
    return years[0] if years else None


def voc_lists(folder: Path) -> Parts:
    """Names listed in ``train.txt`` and ``val.txt``, or ``trainval.txt`` and ``test.txt``; None for a missing list."""
    lists = {file.stem: file for file in folder.glob("*.txt")}
    pair = next((pair for pair in _SPLITS if pair[0] in lists and pair[1] in lists), None)
    train, val = pair or tuple(
        next((s for s in side if s in lists), None) for side in (("trainval", "train"), ("val", "test"))
    )
    return Parts(_lines(lists[train]) if train else None, _lines(lists[val]) if val else None)


def read_voc(parts: Sequence[VocPart | None], findings: Findings) -> list[DetectionSet | None]:
    """Read the images of all sets and their objects, without those that are skipped according to :class:`Problem`.

    VOC's pixel coordinates start at 1 and are inclusive, so ``xmin`` 1 is the image's edge. Difficult objects are
    marked as crowds: ignored in training and evaluation. The classes are those of ``classes.txt`` or ``labels.txt`` in
    the folder, or else all classes in the annotations, sorted.

    Raises:
        UserError: none of the images of a set exists.
    """
    files = [None if part is None else _parsed(part, findings) for part in parts]
    root = next(part.root for part in parts if part is not None)
    declared = read_class_names(root)
    names = declared or sorted({name for file in files if file for tree in file.values() for name in _names(tree)})
    return [
        None if part is None or file is None else _set(part, file, names, findings)
        for part, file in zip(parts, files, strict=True)
    ]


def _parsed(part: VocPart, findings: Findings) -> dict[str, ElementTree.Element]:
    """Parsed annotation files by image name."""
    found = {}
    findings.images += len(part.stems)
    for stem in part.stems:
        path = part.root / "Annotations" / f"{stem}.xml"
        try:
            found[stem] = read_xml(path)
        except FileNotFoundError:
            findings.add(Problem.NO_ANNOTATION, f"{stem}: {path.name} is missing")
        except (OSError, ValueError, LookupError) as error:
            findings.add(Problem.FILE_BROKEN, f"{path}: {error}")
    return found


def _names(tree: ElementTree.Element) -> list[str]:
    return [name for entry in tree.iter("object") if (name := _text(entry, "name"))]


def _set(part: VocPart, files: dict[str, ElementTree.Element], names: list[str], findings: Findings) -> DetectionSet:
    folder = part.root / "JPEGImages"
    images = {path.stem: path for path in reversed(list_images(folder))}
    paths, stems, sizes = [], [], []
    for stem, tree in files.items():
        path = images.get(stem)
        if path is None:
            findings.add(Problem.IMAGE_MISSING, f"{stem}.xml: {folder.name}/{stem}.* is missing")
            continue
        given = [_side(_text(tree, f"size/{side}")) for side in ("height", "width")]
        try:
            sizes.append(tuple(given) if None not in given else upright_size(str(path), full=False))
        except UnreadableImage as error:
            findings.add(Problem.IMAGE_UNREADABLE, f"{path.name}: {error}")
            continue
        paths.append(str(path))
        stems.append(stem)
    if files and not paths:
        raise UserError(f"none of the images of {part.root / 'Annotations'} was found in {folder}. Put them there.")
    objects = ObjectCollector(np.array(sizes, np.int64).reshape(-1, 2), findings, masks=False)
    labels = {name: label for label, name in enumerate(names, 1)}
    for index, stem in enumerate(stems):
        for number, entry in enumerate(files[stem].iter("object"), 1):
            _add(objects, index, entry, labels, f"{stem}.xml: object {number}", findings)
    made, first = objects.collected(str(part.root))
    ids = np.arange(1, len(paths) + 1)
    file_names = [Path(path).name for path in paths]
    return DetectionSet(
        FileImages(paths),
        file_names,
        names,
        np.array(sizes, np.int64).reshape(-1, 2),
        ids,
        made,
        first,
        [*labels.values()],
    )


def _add(
    objects: ObjectCollector,
    image: int,
    entry: ElementTree.Element,
    labels: dict[str, int],
    place: str,
    findings: Findings,
) -> None:
    name = _text(entry, "name")
    if name not in labels:
        problem = Problem.UNKNOWN_CATEGORY if name else Problem.ENTRY_BROKEN
        findings.add(problem, f"{place}: category {name!r}" if name else f"{place}: <name> is missing")
        return
    corners = [_number(_text(entry, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
    box: list[float | None] = corners
    if None not in corners:
        left, top, right, bottom = corners
        box = [left - 1, top - 1, right - left + 1, bottom - top + 1]  # type: ignore[operator]
    difficult = _text(entry, "difficult") == "1"
    objects.add(image, box, labels[name], place=place, crowd=difficult, number=objects.seen + 1)


def _text(entry: ElementTree.Element, path: str) -> str:
    """Text of an element, on one line."""
    return " ".join((entry.findtext(path) or "").split())


def _side(text: str) -> int | None:
    """Parse a side in pixels; None if invalid."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return number if 0 < number <= MAX_PIXELS else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _lines(file: Path) -> list[str]:
    """First word of each line; the lists of single classes have a second."""
    try:
        words = [line.split() for line in read_text(file, errors="replace").splitlines()]
    except OSError as error:
        raise UserError(f"cannot read the image list {file}: {error.strerror or error}.") from error
    return list(dict.fromkeys(line[0] for line in words if line))
