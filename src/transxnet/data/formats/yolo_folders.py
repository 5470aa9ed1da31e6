"""Find the images, label files and class names of a data set in YOLO format."""

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.parts import Parts, folders_of, part_in, part_of
from transxnet.data.reading.file_search import find_file, list_images, named_folders, read_lines, walk_images
from transxnet.data.reading.pixels import CHANNEL_EXTENSIONS, extensions_for
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_yaml

ACCEPTED = (
    "a folder in YOLO format: images/train/, images/val/ and labels/train/, labels/val/; or train/images/ and "
    "train/labels/, and so on; or images/ and labels/; or images with a text file next to each; class names in "
    "data.yaml, classes.txt or obj.names"
)

_ROW = re.compile(r"\d+(\s+[-+.\deE]+){4,}\s*")
_SAMPLE = 100
"""Number of images and label files by which a folder is recognized."""


@dataclass(frozen=True)
class YoloPart:
    """The training, validation or test set.

    Attributes:
        root: folder of the data.
        sources: folders of images, and text files that list images.
        config: ``data.yaml``, or None.
    """

    root: Path
    sources: tuple[Path, ...]
    config: Path | None = None

    def images(self, findings: Findings, channels: int | None = None) -> list[Path]:
        """The image files, each once; listed images that do not exist are recorded.

        Args:
            findings: receives the problems.
            channels: number of channels that the images are read in, or None for RGB.
        """
        found: list[Path] = []
        for source in self.sources:
            if source.is_dir():
                found += list_images(source, extensions_for(channels))
                continue
            for name in read_lines(source):
                path = find_file(source.parent, name).path or find_file(self.root, name).path
                if path is None:
                    findings.add(Problem.IMAGE_MISSING, f"{source.name}: {name:.200}")
                    findings.images += 1
                else:
                    found.append(path)
        return list(dict.fromkeys(found))


def find_yolo(root: Path) -> Parts:
    """Find the sets of a data set in YOLO format; None for a missing set.

    The sets are those in ``data.yaml``; or in the lists ``train.txt``, ``val.txt`` and ``test.txt``; or else in folders
    with their names above or below ``images/``. Paths in these files that do not exist are looked up without their
    first folders, since they are often those of another machine.

    Args:
        root: the folder, or its ``data.yaml``.

    Raises:
        UserError: ``data.yaml`` cannot be read, or a folder that it names does not exist.
    """
    if root.is_file():
        return _configured(root.parent, root) if root.suffix.lower() in (".yaml", ".yml") and _names(root) else Parts()
    if not root.is_dir():
        return Parts()
    config = next((file for file in sorted(root.glob("*.y*ml")) if _names(file)), None)
    if config is not None:
        parts = _configured(root, config)
        if any(_is_labeled(source, root) for part in parts if part is not None for source in part.sources):
            return parts
    images = named_folders(root).get("images", root)
    for candidates in (_lists(root), _folders(root), {"train": [images, root]}):
        labeled = {part: [one for one in sources if _is_labeled(one, root)] for part, sources in candidates.items()}
        found = {part: YoloPart(root, (sources[0],), config) for part, sources in labeled.items() if sources}
        if found:
            return Parts(**found)
    return Parts()


def label_file(image: Path) -> Path | None:
    """The text file with an image's objects: in ``labels/`` instead of ``images/``, or next to the image."""
    name = f"{image.stem}.txt"
    folders = [*_labels_folders(image.parent), image.parent, image.parent / "labels"]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _labels_folders(images: Path) -> list[Path]:
    """The possible folders of the label files for a folder of images: the last ``images`` in its path is ``labels``."""
    above = next((i for i in reversed(range(len(images.parts))) if images.parts[i].casefold() == "images"), None)
    if above is None:
        return []
    base, below = Path(*images.parts[:above]), images.parts[above + 1 :]
    return [base.joinpath(name, *below) for name in ("labels", "Labels", "LABELS")]


def unused_labels(part: YoloPart, used: Collection[Path]) -> list[Path]:
    """The unused label files of a set that is a single folder of images."""
    folders = _labels_folders(part.sources[0]) if len(part.sources) == 1 and part.sources[0].is_dir() else []
    files = (file for folder in folders for file in sorted(folder.rglob("*.txt")))
    return [file for file in files if file not in used and file.name != "classes.txt"]


def read_config(config: Path) -> dict[str, Any]:
    """Read ``data.yaml``.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        content = read_yaml(config)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {config}: {error}. Correct the file.") from error
    return content if isinstance(content, dict) else {}


def _names(file: Path) -> bool:
    """Whether a YAML file has class names."""
    try:
        content = read_yaml(file)
    except (OSError, ValueError):
        return file.name.casefold() == "data.yaml"  # reported when it is read
    return isinstance(content, dict) and "names" in content


def _configured(root: Path, config: Path) -> Parts:
    """The sets that ``data.yaml`` names; a missing test set is no error, since exports name one in any case."""
    content = read_config(config)
    bases = [root / str(content["path"])] if content.get("path") else []
    found: dict[str, YoloPart | None] = {}
    for part in Parts._fields:
        given = next((value for key, value in content.items() if part_of(str(key)) == part and value), None)
        values = [str(value) for value in (given if isinstance(given, list) else [given] if given else [])]
        sources = [_locate([*bases, root], value) for value in values]
        missing = [value for value, source in zip(values, sources, strict=True) if source is None]
        if missing and part != "test":
            raise UserError(
                f"{config} names {missing[0]!r} for {part!r}, which does not exist. Accepted: a folder of images, or a "
                "text file that lists images, relative to this file. Correct the path."
            )
        existing = tuple(source for source in sources if source is not None)
        found[part] = YoloPart(root, existing, config) if existing else None
    if found["val"] is not None and found["val"] == found["train"]:
        found["val"] = None  # training images are no validation images
    return Parts(**found)


def _locate(bases: list[Path], value: str) -> Path | None:
    """The folder or list that a path in ``data.yaml`` names, also without some of its first folders."""
    parts = [part for part in value.replace("\\", "/").split("/") if part not in ("", ".")]
    paths = [base / value for base in bases]
    paths += [
        base.joinpath(*parts[start:]) for start in range(len(parts)) for base in bases if ".." not in parts[start:]
    ]
    # Unlike Path.is_file, these do not raise for a name that is too long.
    return next((path for path in paths if os.path.isdir(path) or os.path.isfile(path)), None)


def _lists(root: Path) -> dict[str, list[Path]]:
    """The text files that list the images of each set."""
    lists = {part_of(file.stem): [file] for file in sorted(root.glob("*.txt"))}
    return {part: lists.get(part, []) for part in Parts._fields}


def _folders(root: Path) -> dict[str, list[Path]]:
    """Candidate folders of the images of each set, the most specific first."""
    folders = named_folders(root)
    found: dict[str, list[Path]] = {}
    for part in Parts._fields:
        inside = folders_of(folders["images"], part) if "images" in folders else []
        above = folders_of(root, part)
        exported = [path for name, path in folders.items() if name.startswith("obj_") and part_in(name) == part]
        images = [named_folders(one)["images"] for one in above if "images" in named_folders(one)]
        found[part] = [*inside, *images, *above, *exported]
    return found


def _is_labeled(source: Path, root: Path) -> bool:
    """Whether one of the first images has a label file in ``labels/``, where damaged rows are reported later, or else
    one whose first row is YOLO's: next to images may be text files of any kind.
    """
    if source.is_dir():
        images = [Path(path) for path in islice(walk_images(source, extensions=CHANNEL_EXTENSIONS), _SAMPLE)]
    else:
        images = [path for name in read_lines(source)[:_SAMPLE] if (path := find_file(root, name).path) is not None]
    labels = ((file, image) for image in images if (file := label_file(image)) is not None)
    return any(file.parent != image.parent or _is_yolo(file) for file, image in labels)


def _is_yolo(file: Path) -> bool:
    rows = read_lines(file)
    return bool(rows) and _ROW.fullmatch(rows[0]) is not None


def names_files(root: Path) -> Iterator[Path]:
    """Files with one class name per line, in the order in which they are tried."""
    for pattern in (
        "classes.txt",
        "obj.names",
        "*.names",
        "_darknet.labels",
        "labels/classes.txt",
        "*/_darknet.labels",
    ):
        yield from sorted(root.glob(pattern))
