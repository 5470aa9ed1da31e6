"""Find images and their label maps, whose pixel values are classes."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.parts import Parts, part_folders
from transxnet.data.formats.voc import voc_folder, voc_lists
from transxnet.data.reading.file_search import list_folders, list_images, walk_images
from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.data.reading.pixels import extensions_for

IMAGE_FOLDERS = (
    "images", "image", "imgs", "img", "img_dir", "JPEGImages", "leftImg8bit", "photos", "rgb", "original", "originals",
    "input", "inputs",
)  # fmt: skip
"""Names of folders of images. Case, spaces, hyphens and underscores do not matter."""

MAP_FOLDERS = (
    "annotations", "annotation", "annot", "masks", "mask", "labels", "label", "label_maps", "ann_dir",
    "SegmentationClass", "SegmentationClassRaw", "gtFine", "gt", "ground_truth", "segmentations", "segmentation",
    "target", "targets",
)  # fmt: skip
"""Names of folders of label maps, also after the name of a set: ``trainannot``, ``val_labels``."""

ACCEPTED = (
    "images and label maps with equal names in two folders, such as images/ and masks/ (or annotations/, labels/, "
    "label_maps/; img_dir/ and ann_dir/; leftImg8bit/ and gtFine/; JPEGImages/ and SegmentationClass/), optionally "
    "with train/, val/ and test/ inside or above both; or train/ and trainannot/ (or train_labels/), and so on"
)

LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
"""File extensions of label maps: JPEG would change the values."""

ENDINGS = (
    "", "_mask", "_label", "_labels", "_gt", "_seg", "_segmentation", "_L", "_gtFine_labelTrainIds", "_gtFine_labelIds",
)  # fmt: skip
"""Suffixes that a label map's name may have after its image's name, with or without the image's extension."""

_IMAGE_ENDINGS = re.compile(r"_(leftImg8bit|image|img)$")
"""Suffixes that only the image's name has."""


@dataclass(frozen=True)
class MapPart:
    """One set: its folders, and its images by name without extension, or None for all."""

    root: Path
    images: Path
    maps: Path
    stems: tuple[str, ...] | None = None

    def list_images(self, channels: int | None = None) -> list[Path]:
        """The image files, of the formats that are read in this number of channels, or in RGB."""
        return list_images(self.images, extensions_for(channels))

    def count(self, channels: int | None = None) -> int:
        """Number of images."""
        return len(self.list_images(channels) if self.stems is None else self.stems)


def find_label_maps(root: Path) -> Parts:
    """Find the training, validation and test set in a folder of images and label maps; None for a missing set."""
    if not root.is_dir():
        return Parts()
    for find in (_find_voc, _find_inside, _find_above, _find_adjacent):
        if any(parts := find(root)):
            return parts
    return Parts()


def is_ade20k(root: Path) -> bool:
    """Whether a folder is ADE20K, by its name or its table of classes."""
    return root.resolve().name == "ADEChallengeData2016" or (root / "objectInfo150.txt").is_file()


def pair_up(part: MapPart, findings: Findings, channels: int | None = None) -> list[tuple[Path, Path]]:
    """Pair images with their label maps. Images without a map, and maps without an image, are recorded.

    Args:
        part: the set.
        findings: receives the problems.
        channels: number of channels that the images are read in, or None for RGB.
    """
    lossless_last = sorted(list_images(part.maps), key=lambda path: path.suffix.lower() in LOSSLESS)
    maps = {_key(path, part.maps): path for path in lossless_last}
    images = {_key(path, part.images): path for path in part.list_images(channels)}
    wanted = images if part.stems is None else [normalize("NFC", stem) for stem in part.stems]
    pairs = []
    found: dict[str, str | None] = {}
    findings.images += len(wanted)
    for key in wanted:
        if key not in images:
            findings.add(Problem.IMAGE_MISSING, f"{key}: listed, but not in {part.images.name}/")
            continue
        found[key] = next((name for name in _map_names(images[key], part.images) if name in maps), None)
    for key, name in found.items():
        if name is None:
            others = "" if any(found.values()) else f"; found: {min(maps)}, accepted endings: {', '.join(ENDINGS[1:])}"
            findings.add(Problem.NO_ANNOTATION, f"{images[key].name}: {part.maps.name}/{key}.png is missing{others}")
        elif maps[name].suffix.lower() not in LOSSLESS:
            findings.add(Problem.MAP_LOSSY, f"{maps[name].name}; accepted: {', '.join(LOSSLESS)}")
        else:
            pairs.append((images[key], maps[name]))
    if part.stems is None:
        for name in sorted(maps.keys() - found.values()):
            if not any(key in images for key in _prefixes(name)):  # else it is another kind of map of an image
                findings.add(Problem.STRAY_MAP, maps[name].name)
    return pairs


def _map_names(image: Path, folder: Path) -> Iterator[str]:
    """Possible names of an image's label map, below its folder and without extension."""
    key = _key(image, folder)
    for name in (_IMAGE_ENDINGS.sub("", key), key, key + image.suffix):
        yield from (name + ending for ending in ENDINGS)


def _prefixes(name: str) -> Iterator[str]:
    """The name without its last words: ``a_b`` and ``a`` for ``a_b_color``, also with the ending of images."""
    while "_" in name:
        name = name.rpartition("_")[0]
        yield from (name, name + "_leftImg8bit")


def _find_inside(root: Path) -> Parts:
    """``images/`` and ``masks/``, both with folders of the sets or neither."""
    whole = _folder_pair(root)
    if whole is None:
        return Parts()
    folders = (part_folders(folder / name for name in list_folders(folder)) for folder in (whole.images, whole.maps))
    parts = [None if None in both else MapPart(root, *both) for both in zip(*folders, strict=True)]
    return Parts(*parts) if any(parts) else Parts(whole)


def _find_above(root: Path) -> Parts:
    """``train/images/`` and ``train/masks/``, and so on."""
    pairs = {root / name: _folder_pair(root / name) for name in list_folders(root)}
    folders = part_folders(folder for folder, pair in pairs.items() if pair is not None)
    pairs_of = [None if folder is None else pairs[folder] for folder in folders]
    return Parts(*(None if pair is None else replace(pair, root=root) for pair in pairs_of))


def _find_adjacent(root: Path) -> Parts:
    """``train/`` and ``trainannot/``, and so on."""
    folders = {_plain(name): root / name for name in list_folders(root)}
    maps = {
        folder: folders[plain + suffix]
        for plain, folder in folders.items()
        for suffix in map(_plain, MAP_FOLDERS)
        if plain + suffix in folders and _holds_images(folders[plain + suffix], EXTENSIONS)
    }
    return Parts(*(None if part is None else MapPart(root, part, maps[part]) for part in part_folders(maps)))


def _folder_pair(root: Path) -> MapPart | None:
    """The folder of images and the folder of label maps below the root; maps in a lossy format are refused later."""
    folders = {_plain(name): root / name for name in list_folders(root)}
    images, maps = (
        [folders[_plain(name)] for name in names if _plain(name) in folders] for names in (IMAGE_FOLDERS, MAP_FOLDERS)
    )
    pairs = (
        MapPart(root, images[0], folder)
        for extensions in (LOSSLESS, EXTENSIONS)
        for folder in maps
        if images and _holds_images(folder, extensions)
    )
    return next(pairs, None)


def _find_voc(root: Path) -> Parts:
    folder = voc_folder(root)
    if folder is None:
        return Parts()
    whole = MapPart(folder, folder / "JPEGImages", folder / "SegmentationClass")
    if not whole.maps.is_dir() or not _holds_images(whole.maps, EXTENSIONS):
        return Parts()
    lists = voc_lists(folder / "ImageSets" / "Segmentation")
    if not any(lists):
        lists = Parts(sorted(_key(path, whole.maps) for path in list_images(whole.maps)))
    return Parts(*(None if x is None else MapPart(folder, whole.images, whole.maps, tuple(x)) for x in lists))


def _holds_images(folder: Path, extensions: Collection[str]) -> bool:
    return any(os.path.splitext(path)[1].lower() in extensions for path in walk_images(folder))


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.casefold())


def _key(path: Path, folder: Path) -> str:
    """The path below the folder, without extension and with composed letters."""
    return normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
