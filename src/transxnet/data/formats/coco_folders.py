"""Find the annotation files and images of a data set in COCO format."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transxnet.data.formats.parts import TRAIN_NAMES, Parts
from transxnet.data.reading.file_search import entries, find_file
from transxnet.utils.errors import UserError

ACCEPTED = (
    "a folder in COCO format: annotations/instances_train*.json and instances_val*.json, with images in train*/ and "
    "val*/ or in images/; or train/ and val/, each with images and one annotation file; or images and one "
    "annotation file"
)

OTHER_TASKS = ("captions", "panoptic", "person_keypoints", "image_info", "stuff")
"""COCO's own annotation files without boxes."""

_NAMES = re.compile(r"instances.*|_annotations\.coco|annotations?.*|.*coco.*", re.IGNORECASE)
_WEAK_NAMES = re.compile(r"labels|result|data|.*(train|val|test).*", re.IGNORECASE)
_VAL_NAMES = ("val", "validation", "valid", "test")
_KEYS = re.compile(rb'"(images|annotations|categories|info|licenses)"\s*:\s*[\[{]')


@dataclass(frozen=True)
class CocoPart:
    """The training or validation set.

    Attributes:
        annotations: the annotation file.
        name: its path below the data's root, for messages.
        folders: candidate image folders, the most likely first.
    """

    annotations: Path
    name: str
    folders: list[Path]

    def image_folder(self, names: Sequence[str]) -> Path:
        """The folder that holds the images with these names; the first if none does."""
        some = names[:: max(1, len(names) // 50)]
        hits = [sum(find_file(folder, name) is not None for name in some) for folder in self.folders]
        return self.folders[hits.index(max(hits))]


def find_coco(root: Path) -> Parts:
    """Find the training and validation set of a data set in COCO format; None for a missing set.

    Annotation files are searched in this order: the root itself if it is a file; ``annotations/``; ``train/`` and
    ``val/`` by any of their common names; the root. The words *train* and *val* (*validation*, *valid*, *test*) in
    their names distinguish the sets.

    Raises:
        UserError: there are several files for one set.
    """
    if root.is_file():
        return Parts(_part(root.parent, root, ()) if _is_coco(root) else None)
    if not root.is_dir():
        return Parts()
    for folder in (root / "annotations", root / "annotation"):
        if files := _annotation_files(folder):
            return _sorted_out(root, files)
    inside = [_only(_first_files(root, names)) for names in (TRAIN_NAMES, _VAL_NAMES)]
    if any(inside):
        return Parts(*(None if file is None else _part(root, file, ()) for file in inside))
    return _sorted_out(root, _annotation_files(root))


def _first_files(root: Path, names: Sequence[str]) -> list[Path]:
    """The annotation files in the first of these folders that has any."""
    folders = {folder.name.lower(): folder for folder in entries(root) if folder.is_dir()}
    found = (_annotation_files(folders[name]) for name in names if name in folders)
    return next(filter(None, found), [])


def _annotation_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [file for file in entries(folder) if file.suffix.lower() == ".json" and file.is_file()]
    return [file for file in found if not file.name.startswith((".", *OTHER_TASKS)) and _is_coco(file)]


def _is_coco(file: Path) -> bool:
    """Whether a file is in COCO format, by its name if that is unambiguous, else by its first bytes."""
    if file.name.lower().startswith("instances") or file.name.lower() == "_annotations.coco.json":
        return True
    if not _NAMES.fullmatch(file.stem) and not _WEAK_NAMES.fullmatch(file.stem):
        return False
    try:
        with file.open("rb") as opened:
            return _KEYS.search(opened.read(1 << 16)) is not None
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}. Check its permissions.") from error


def _sorted_out(root: Path, files: list[Path]) -> Parts:
    """Assign the files to the training and validation set."""
    parts_of = {word: _with_word(files, (word,)) for word in (*TRAIN_NAMES, "trainval", *_VAL_NAMES)}
    train = _of_part(root, _with_word(files, (*TRAIN_NAMES, "trainval")))
    val = next((_of_part(root, parts_of[word]) for word in _VAL_NAMES if parts_of[word]), None)
    if train is None:
        train = _only([file for file in files if not any(file in named for named in parts_of.values())])
    parts = (train, TRAIN_NAMES), (val, _VAL_NAMES)
    return Parts(*(None if file is None else _part(root, file, names) for file, names in parts))


def _with_word(files: list[Path], words: Sequence[str]) -> list[Path]:
    """The files with one of these words in their names, optionally followed by a year."""
    pattern = re.compile(rf"(?<![a-z])({'|'.join(words)})\d*(?![a-z])", re.IGNORECASE)
    return [file for file in files if pattern.search(file.stem)]


def _of_part(root: Path, files: list[Path]) -> Path | None:
    """The only file, or of several the one whose images have a folder of their own."""
    if len(files) > 1:
        own = [f for f in files if any((base / _own_name(f)).is_dir() for base in (root, root / "images"))]
        files = own or files
    return _only(files)


def _only(files: list[Path]) -> Path | None:
    if len(files) > 1:
        raise UserError(
            f"{files[0].parent} contains several annotation files: {', '.join(file.name for file in files)}. Accepted: "
            f"{ACCEPTED}. Keep one per set, or pass one of them as DATA."
        )
    return files[0] if files else None


def _own_name(file: Path) -> str:
    """``train2017`` for ``instances_train2017.json``."""
    return re.sub(r"^(instances|annotations?)_", "", file.stem)


def _part(root: Path, file: Path, names: Sequence[str]) -> CocoPart:
    return CocoPart(file, file.relative_to(root).as_posix(), _folders(root, file, names))


def _folders(root: Path, file: Path, names: Sequence[str]) -> list[Path]:
    """Candidate image folders: next to the file if it is in the set's own folder, else folders with the set's names."""
    own = [file.parent] if file.parent.name.lower() in (*TRAIN_NAMES, *_VAL_NAMES) else []
    bases = (root, root / "images", root / "data")
    likely = [base / name for name in (_own_name(file), *names) for base in bases]
    general = [root / "images", root / "data", root, file.parent, file.parent / "images", root.parent / "images"]
    above = [root.parent / name for name in (_own_name(file), *names)]  # if the root is annotations/
    found = [folder for folder in dict.fromkeys([*own, *likely, *general, *above]) if folder.is_dir()]
    return found or [root]
