"""Find images and their label maps, whose pixel values are classes."""

from dataclasses import dataclass, replace
from pathlib import Path

from transxnet.data.formats.class_folders import find_parts
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.parts import Parts
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
"""Common names of folders of images and of their label maps."""

ACCEPTED = (
    "images and label maps with equal names in two folders, such as images/ and annotations/ (or masks/, labels/, "
    "label_maps/; img_dir/ and ann_dir/; JPEGImages/ and SegmentationClass/), optionally with training/ and "
    "validation/ (or train/ and val/) inside or above both"
)

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
"""File extensions of label maps: JPEG would change the values."""

ENDINGS = ("", "_mask", "_label")
"""Suffixes that a label map's name may have after its image's name."""


@dataclass(frozen=True)
class MapPart:
    """The training or validation set: its folders, and its images by name without extension, or None for all."""

    root: Path
    images: Path
    maps: Path
    stems: tuple[str, ...] | None = None

    def count(self) -> int:
        """Number of images."""
        return len(list_images(self.images) if self.stems is None else self.stems)


def find_label_maps(root: Path) -> Parts:
    """Find the training and validation set in a folder of images and label maps; None for a missing set."""
    if not root.is_dir():
        return Parts()
    for folder in _existing(root):
        splits = zip(find_parts(folder.images), find_parts(folder.maps), strict=True)
        parts = [MapPart(root, *both) if None not in both else None for both in splits]  # type: ignore[arg-type]
        if any(part is not None and _holds_maps(part) for part in parts):
            return Parts(*parts)
        if _holds_maps(folder):
            return Parts(folder)
    above = [None if folder is None else next(iter(_existing(folder)), None) for folder in find_parts(root)]
    above = [None if part is None else replace(part, root=root) for part in above]
    if any(part is not None and _holds_maps(part) for part in above):
        return Parts(*above)
    return _find_voc(root)


def is_ade20k(root: Path) -> bool:
    """Whether a folder is ADE20K, by its name or its table of classes."""
    return root.resolve().name == "ADEChallengeData2016" or (root / "objectInfo150.txt").is_file()


def pair_up(part: MapPart, findings: Findings) -> list[tuple[Path, Path]]:
    """Pair images with their label maps. Images without a map are recorded, maps without an image ignored."""
    maps = {_key(path, part.maps): path for path in reversed(list_images(part.maps))}
    images = {_key(path, part.images): path for path in list_images(part.images)}
    wanted = images if part.stems is None else part.stems
    pairs = []
    findings.images += len(wanted)
    for key in wanted:
        found = next((maps[key + ending] for ending in ENDINGS if key + ending in maps), None)
        if key not in images:
            findings.add(Problem.IMAGE_MISSING, f"{key}: listed, but not in {part.images.name}/")
        elif found is None:
            findings.add(Problem.NO_ANNOTATION, f"{images[key].name}: {part.maps.name}/{key}.png is missing")
        elif found.suffix.lower() not in LOSSLESS:
            what = f"{found.name}: label maps must be {', '.join(LOSSLESS)}; lossy formats change their values"
            findings.add(Problem.MAP_UNREADABLE, what)
        else:
            pairs.append((images[key], found))
    return pairs


def _existing(root: Path) -> list[MapPart]:
    """The common pairs of folders that exist below the root; Pascal VOC also has lists of images."""
    parts = (MapPart(root, root / images, root / maps) for images, maps in FOLDERS[:-1])
    return [part for part in parts if part.images.is_dir() and part.maps.is_dir()]


def _find_voc(root: Path) -> Parts:
    folder = voc_folder(root)
    if folder is None:
        return Parts()
    whole = MapPart(folder, folder / FOLDERS[-1][0], folder / FOLDERS[-1][1])
    if not whole.maps.is_dir() or not _holds_maps(whole):
        return Parts()
    lists = voc_lists(folder / "ImageSets" / "Segmentation")
    if not any(lists):
        lists = Parts(sorted(_key(path, whole.maps) for path in list_images(whole.maps)))
    return Parts(*(None if x is None else MapPart(folder, whole.images, whole.maps, tuple(x)) for x in lists))


def _holds_maps(part: MapPart) -> bool:
    return any(path.suffix.lower() in LOSSLESS for path in list_images(part.maps))


def _key(path: Path, folder: Path) -> str:
    """The path below the folder, without extension."""
    return path.relative_to(folder).with_suffix("").as_posix()
