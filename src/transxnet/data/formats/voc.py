"""Pascal VOC annotations: one XML file with boxes for each image."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.formats.class_names import read_class_names
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.object_checks import ObjectCollector, as_flag
from transxnet.data.formats.parts import Parts, folders_of, part_of
from transxnet.data.reading.file_search import list_images, named_folders, read_lines
from transxnet.data.reading.image_decoding import MAX_PIXELS, UnreadableImage
from transxnet.data.reading.pixels import extensions_for, pixels_size
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_bytes, read_xml

ACCEPTED = (
    "a folder with Annotations/*.xml, JPEGImages/ (or images/) and, for a predefined split, ImageSets/Main/train.txt, "
    "val.txt and test.txt; or images with an XML file next to each; or train/, val/ and test/ with either"
)

_ANNOTATIONS = ("annotations", "annotation", "labels", "xml", "xmls")
_IMAGES = ("jpegimages", "images", "image", "imgs", "img")
"""Names of the folders of XML files and of images, in lower case."""


@dataclass(frozen=True)
class VocPart:
    """The training, validation or test set.

    Attributes:
        root: folder of the data, which may have the class names.
        annotations: folder of the XML files.
        images: folder of the images.
        stems: names of the images without extension, below both folders.
    """

    root: Path
    annotations: Path
    images: Path
    stems: list[str]


def find_voc(root: Path) -> Parts:
    """Find the sets in a folder with Pascal VOC's XML files; None for a missing set.

    The root may contain ``VOCdevkit/VOC2012``, or another single year. The XML files are in a folder next to that of
    the images, or next to the images; folders of the sets may be above or inside both.
    """
    folder = voc_folder(root) or root
    inside = _sets(folder, _inside)
    if any(inside):
        return inside
    whole = _whole(folder)
    if whole is None:
        return _sets(folder, _above)
    lists = named_folders(folder).get("imagesets", folder / "ImageSets")
    stems = voc_lists(named_folders(lists).get("main", lists / "Main"))
    if not any(stems):
        return Parts(whole)
    return Parts(*(None if names is None else replace(whole, stems=names) for names in stems))


def _sets(folder: Path, candidates: Callable[[Path, str], Iterator[VocPart | None]]) -> Parts:
    """The first candidate for each set."""
    found = (next(filter(None, candidates(folder, part)), None) for part in Parts._fields)
    return Parts(*(None if part is None else replace(part, root=folder) for part in found))


def _inside(folder: Path, part: str) -> Iterator[VocPart | None]:
    """``annotations/train/`` and ``images/train/``, or ``images/`` for all sets."""
    for annotations, images in _folder_pairs(folder):
        for one in folders_of(annotations, part):
            yield from (_part(folder, one, other) for other in (*folders_of(images, part), images))


def _above(folder: Path, part: str) -> Iterator[VocPart | None]:
    """``train/`` with all images of the set."""
    yield from map(_whole, folders_of(folder, part))


def _folder_pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of XML files and of images directly below a folder."""
    folders = named_folders(folder)
    for annotations in (folders[name] for name in _ANNOTATIONS if name in folders):
        for images in (folders[name] for name in _IMAGES if name in folders):
            yield annotations, images


def _whole(folder: Path) -> VocPart | None:
    """All images of a folder, with XML files in another folder or next to them."""
    images = (images for name, images in named_folders(folder).items() if name in _IMAGES)
    pairs = [*_folder_pairs(folder), (folder, folder), *((one, one) for one in images)]
    return next((part for pair in pairs if (part := _part(folder, *pair)) is not None), None)


def _part(root: Path, annotations: Path, images: Path) -> VocPart | None:
    """The set of all XML files of a folder, below subfolders too if it has no images; None if they are not VOC's."""
    files = sorted(annotations.glob("*.xml") if annotations == images else annotations.rglob("*.xml"))
    if not files or not (images.name == "JPEGImages" or _is_voc(files[0])):
        return None
    return VocPart(root, annotations, images, [_stem(file, annotations) for file in files])


def _is_voc(file: Path) -> bool:
    """Whether the root of an XML file is ``<annotation>``; damaged files are reported later."""
    try:
        text = read_bytes(file)[:4096].replace(b"\0", b"")  # of UTF-16
    except OSError:
        return True
    return re.search(rb"<(?![?!])", text) is None or re.search(rb"<annotation[\s>]", text) is not None


def _stem(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def voc_folder(root: Path) -> Path | None:
    """The folder that holds ``JPEGImages/``: the root, or the only year below it, or None.

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
    """Names listed in the files of the sets, such as ``train.txt`` and ``Validation.txt``; None for a missing list.

    Without ``train.txt``, ``trainval.txt`` without the names in ``val.txt`` is used, as without ``val.txt``.
    """
    lists: dict[str | None, Path] = {}
    for file in sorted(folder.glob("*.txt")):
        both = file.stem.casefold() == "trainval"
        lists.setdefault("trainval" if both else part_of(file.stem), file)
    train, val, test = (_names_in(lists[part]) if part in lists else None for part in Parts._fields)
    if "trainval" in lists and (train is None or val is None):
        validated = set(val or ())
        train = [name for name in _names_in(lists["trainval"]) if name not in validated]
    return Parts(train, val, test)


def read_voc(
    parts: Sequence[VocPart | None], findings: Findings, channels: int | None = None
) -> list[DetectionSet | None]:
    """Read the images of the sets and their objects, without those that are skipped according to :class:`Problem`.

    VOC's pixel coordinates start at 1 and are inclusive, so ``xmin`` 1 is the image's edge. Difficult objects are
    marked as crowds: ignored in training and evaluation. An object with several boxes is several objects. The classes
    are those of ``classes.txt`` or ``labels.txt`` in the folder, or else all classes in the annotations, sorted.

    Args:
        parts: the sets; None for missing ones.
        findings: receives the problems; the caller raises those that are refused.
        channels: number of channels that the images are read in, or None for RGB.

    Raises:
        UserError: none of the images of a set exists.
    """
    files = [None if part is None else _parsed(part, findings) for part in parts]
    root = next(part.root for part in parts if part is not None)
    declared = read_class_names(root)
    names = declared or sorted({name for file in files if file for tree in file.values() for name in _names(tree)})
    return [
        None if part is None or file is None else _set(part, file, names, findings, channels)
        for part, file in zip(parts, files, strict=True)
    ]


def _parsed(part: VocPart, findings: Findings) -> dict[str, ElementTree.Element]:
    """Parsed annotation files by image name."""
    found = {}
    findings.images += len(part.stems)
    for stem in part.stems:
        path = part.annotations / f"{stem}.xml"
        try:
            found[stem] = read_xml(path)
        except FileNotFoundError:
            findings.add(Problem.NO_ANNOTATION, f"{stem}: {path.name} is missing")
        except (OSError, ValueError, LookupError) as error:
            findings.add(Problem.FILE_BROKEN, f"{path}: {error}")
    return found


def _names(tree: ElementTree.Element) -> list[str]:
    return [name for entry in tree.iter("object") if (name := _text(entry, "name"))]


def _set(
    part: VocPart,
    files: dict[str, ElementTree.Element],
    names: list[str],
    findings: Findings,
    channels: int | None,
) -> DetectionSet:
    images: dict[str, list[Path]] = {}
    for path in list_images(part.images, extensions_for(channels)):
        images.setdefault(_stem(path, part.images), []).append(path)
    paths, stems, sizes = [], [], []
    for stem, tree in files.items():
        candidates = images.get(stem, [])
        if len(candidates) > 1:
            candidates = [path for path in candidates if path.name == _text(tree, "filename")]
        if not candidates:
            what = "<filename> does not match" if stem in images else "missing:"
            findings.add(Problem.IMAGE_MISSING, f"{stem}.xml: {what} {part.images.name}/{stem}.*")
            continue
        path = candidates[0]
        given = [_side(_text(tree, f"size/{side}")) for side in ("height", "width")]
        try:
            sizes.append(tuple(given) if None not in given else pixels_size(str(path), channels, full=False))
        except UnreadableImage as error:
            findings.add(Problem.IMAGE_UNREADABLE, f"{path.name}: {error}")
            continue
        paths.append(str(path))
        stems.append(stem)
    if files and not paths:
        raise UserError(f"none of the images of {part.annotations} was found in {part.images}. Put them there.")
    objects = ObjectCollector(np.array(sizes, np.int64).reshape(-1, 2), findings, masks=False)
    labels = {name: label for label, name in enumerate(names, 1)}
    for index, stem in enumerate(stems):
        for number, entry in enumerate(files[stem].iter("object"), 1):
            _add(objects, index, entry, labels, f"{stem}.xml: object {number}", findings)
    made, first = objects.collected(str(part.annotations))
    ids = np.arange(1, len(paths) + 1)
    file_names = [Path(path).relative_to(part.images).as_posix() for path in paths]
    return DetectionSet(
        FileImages(paths, channels),
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
        findings.add(problem, f"{place}: category {name!r}" if name else f"{place}: not one <name>")
        return
    difficult = as_flag(_text(entry, "difficult"))
    if difficult is None:
        what = f"<difficult> is {_text(entry, 'difficult')!r:.40}; accepted: 0 or 1"
        findings.add(Problem.ENTRY_BROKEN, f"{place}: {what}")
        return
    for bounds in entry.findall("bndbox") or [ElementTree.Element("bndbox")]:
        corners = [_number(_text(bounds, side)) for side in ("xmin", "ymin", "xmax", "ymax")]
        box: list[float | None] = corners
        if None not in corners:
            left, top, right, bottom = corners
            box = [left - 1, top - 1, right - left + 1, bottom - top + 1]  # type: ignore[operator]
        objects.add(image, box, labels[name], place=place, crowd=difficult, number=objects.seen + 1)


def _text(entry: ElementTree.Element, path: str) -> str:
    """Text of an element, on one line; empty if it is missing or repeated."""
    found = entry.findall(path)
    return " ".join((found[0].text or "").split()) if len(found) == 1 else ""


def _side(text: str) -> int | None:
    """Parse a side in pixels; None if invalid."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return number if 0 < number <= MAX_PIXELS else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _names_in(file: Path) -> list[str]:
    """First word of each line; the lists of single classes have a second."""
    return list(dict.fromkeys(line.split()[0] for line in read_lines(file)))
