"""Where images and their label maps lie: images whose values are the pixels' classes."""

from dataclasses import dataclass, replace
from pathlib import Path

from transxnet.data.formats.class_folders import find_parts
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.voc import voc_folder, voc_lists
from transxnet.data.reading.file_search import list_images

FOLDERS = (
    ("images", "annotations"),
    ("images", "masks"),
    ("images", "labels"),
    ("images", "label_maps"),
    ("img_dir", "ann_dir"),
    ("JPEGImages", "SegmentationClass"),
)
"""Folders of images and of their label maps, as they are usually called."""

ACCEPTED = (
    "images and label maps of the same names in two folders, such as images/ and annotations/ (or masks/, "
    "labels/, label_maps/; img_dir/ and ann_dir/; JPEGImages/ and SegmentationClass/), with training/ and validation/ "
    "(or train/ and val/) in both of them, above them, or nowhere"
)

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
"""Endings that a label map may have: JPEG changes values."""

ENDINGS = ("", "_mask", "_label")
"""What a label map's name may have more than its image's."""


@dataclass(frozen=True)
class MapPart:
    """One part of a data set: the folders, and which images by name without ending, or None for all."""

    root: Path
    images: Path
    maps: Path
    stems: tuple[str, ...] | None = None

    def count(self) -> int:
        """How many images there are."""
        return len(list_images(self.images) if self.stems is None else self.stems)


def find_label_maps(root: Path) -> tuple[MapPart | None, MapPart | None]:
    """The parts to train on and held out of a folder of images and label maps; None for what it lacks."""
    if not root.is_dir():
        return None, None
    for folder in _existing(root):
        splits = zip(find_parts(folder.images), find_parts(folder.maps), strict=True)
        parts = [MapPart(root, *both) if None not in both else None for both in splits]  # type: ignore[arg-type]
        if any(part is not None and _holds_maps(part) for part in parts):
            return parts[0], parts[1]
        if _holds_maps(folder):
            return folder, None
    above = [None if folder is None else next(iter(_existing(folder)), None) for folder in find_parts(root)]
    above = [None if part is None else replace(part, root=root) for part in above]
    if any(part is not None and _holds_maps(part) for part in above):
        return above[0], above[1]
    return _find_voc(root)


def is_ade20k(root: Path) -> bool:
    """Whether a folder is ADE20K by its name or by its table of classes."""
    return root.resolve().name == "ADEChallengeData2016" or (root / "objectInfo150.txt").is_file()


def pair_up(part: MapPart, findings: Findings) -> list[tuple[Path, Path]]:
    """Images with their label maps; images without one are noted, maps without an image do not count."""
    maps = {_key(path, part.maps): path for path in reversed(list_images(part.maps))}
    images = {_key(path, part.images): path for path in list_images(part.images)}
    wanted = images if part.stems is None else part.stems
    pairs = []
    findings.images += len(wanted)
    for key in wanted:
        found = next((maps[key + ending] for ending in ENDINGS if key + ending in maps), None)
        if key not in images:
            findings.add(Problem.IMAGE_MISSING, f"{key}: it is listed and not in {part.images.name}/")
        elif found is None:
            findings.add(Problem.NO_ANNOTATION, f"{images[key].name}: there is no {key}.png in {part.maps.name}/")
        elif found.suffix.lower() not in LOSSLESS:
            what = f"{found.name}: a label map must be of {', '.join(LOSSLESS)}, since others change its values"
            findings.add(Problem.MAP_UNREADABLE, what)
        else:
            pairs.append((images[key], found))
    return pairs


def _existing(root: Path) -> list[MapPart]:
    """Those of the usual pairs of folders that the root holds; Pascal VOC's have lists beside them."""
    parts = (MapPart(root, root / images, root / maps) for images, maps in FOLDERS[:-1])
    return [part for part in parts if part.images.is_dir() and part.maps.is_dir()]


def _find_voc(root: Path) -> tuple[MapPart | None, MapPart | None]:
    folder = voc_folder(root)
    if folder is None:
        return None, None
    whole = MapPart(folder, folder / FOLDERS[-1][0], folder / FOLDERS[-1][1])
    if not whole.maps.is_dir() or not _holds_maps(whole):
        return None, None
    lists = voc_lists(folder / "ImageSets" / "Segmentation")
    if lists == (None, None):
        lists = sorted(_key(path, whole.maps) for path in list_images(whole.maps)), None
    parts = [None if stems is None else MapPart(folder, whole.images, whole.maps, tuple(stems)) for stems in lists]
    return parts[0], parts[1]


def _holds_maps(part: MapPart) -> bool:
    return any(path.suffix.lower() in LOSSLESS for path in list_images(part.maps))


def _key(path: Path, folder: Path) -> str:
    """The name below the folder, without ending."""
    return path.relative_to(folder).with_suffix("").as_posix()
