"""Find the annotation files and images of a data set in COCO format."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transxnet.data.formats.parts import Parts, folders_of, part_in, part_of
from transxnet.data.reading.file_search import entries, find_file, named_folders
from transxnet.utils.errors import UserError

ACCEPTED = (
    "a folder in COCO format: annotations/instances_train*.json and instances_val*.json, with images in train*/ and "
    "val*/ or in images/; or train/ and val/, each with images and one annotation file; or images and one "
    "annotation file"
)

OTHER_TASKS = ("captions", "panoptic", "person_keypoints", "image_info", "stuff")
"""COCO's own annotation files without boxes."""

_SURE_NAMES = re.compile(r"instances.*|_annotations\.coco", re.IGNORECASE)
_LIST = re.compile(r'"(images|annotations|categories)"\s*:\s*\[')

_HEAD = 1 << 16
"""Bytes at the start of a JSON file in which a list of COCO begins: only ``info`` and ``licenses`` may precede it."""


@dataclass(frozen=True)
class CocoPart:
    """The training, validation or test set.

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
        hits = [sum(find_file(folder, name).path is not None for name in some) for folder in self.folders]
        return self.folders[hits.index(max(hits))]


def find_coco(root: Path) -> Parts:
    """Find the sets of a data set in COCO format; None for a missing set.

    Annotation files are recognized by their lists ``images``, ``annotations`` and ``categories``, and searched in this
    order: the root itself if it is a file; ``annotations/``; the folders of the sets; the root. In ``annotations/`` and
    in the root, the names of the sets in the file names distinguish them.

    Raises:
        UserError: there are several files for one set.
    """
    if root.is_file():
        return Parts(_part(root.parent, root, part_in(root.stem)) if _is_coco(root) else None)
    folders = named_folders(root)
    for name in ("annotations", "annotation"):
        if name in folders and (files := _annotation_files(folders[name])):
            return _sorted_out(root, files)
    inside = {part: _first_file(folders_of(root, part)) for part in Parts._fields}
    if not any(inside.values()):
        return _sorted_out(root, _annotation_files(root) if root.is_dir() else [])
    return Parts(**{part: file and _part(root, file, part) for part, file in inside.items()})


def _first_file(folders: Sequence[Path]) -> Path | None:
    """The annotation file in the first of these folders that has one."""
    return _only(next(filter(None, map(_annotation_files, folders)), []))


def _annotation_files(folder: Path) -> list[Path]:
    found = [file for file in entries(folder) if file.suffix.lower() == ".json" and file.is_file()]
    return [file for file in found if not file.name.startswith((".", *OTHER_TASKS)) and _is_coco(file)]


def _is_coco(file: Path) -> bool:
    """Whether a file is in COCO format: by its lists, or by a name that only COCO files have, though damaged."""
    if _SURE_NAMES.fullmatch(file.stem) and file.suffix.lower() == ".json":
        return True
    try:
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}. Check its permissions.") from error
    text = head.decode(json.detect_encoding(head), errors="ignore")
    lists = set(_LIST.findall(text))
    whole = len(head) < _HEAD and _is_json(text)  # a truncated file is reported later
    return {"images", "annotations"} <= lists if whole else bool(lists)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _sorted_out(root: Path, files: list[Path]) -> Parts:
    """Assign the files to the sets; without a file for training, a file without a set's name is that."""
    named: dict[str | None, list[Path]] = {}
    for file in files:
        named.setdefault(part_in(file.stem), []).append(file)
    found = {part: _of_part(root, named.get(part, [])) for part in Parts._fields}
    if found["train"] is None:
        found["train"] = _only(named.get(None, []))
    return Parts(**{part: file and _part(root, file, part) for part, file in found.items()})


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


def _part(root: Path, file: Path, part: str | None) -> CocoPart:
    return CocoPart(file, file.relative_to(root).as_posix(), _folders(root, file, part))


def _folders(root: Path, file: Path, part: str | None) -> list[Path]:
    """Candidate image folders: next to the file if it is in the set's own folder, else folders with the set's names."""
    here, above = named_folders(root), named_folders(root.parent)
    bases = [root, *(here[name] for name in ("images", "data") if name in here)]
    own = [file.parent] if part_of(file.parent.name) else []
    likely = [named_folders(base).get(_own_name(file).casefold()) for base in bases]
    likely += [folder for base in bases if part for folder in folders_of(base, part)]
    general = [*bases[1:], root, file.parent, named_folders(file.parent).get("images"), above.get("images")]
    if part and file.parent == root:  # the root may be annotations/
        general += [above.get(_own_name(file).casefold()), *folders_of(root.parent, part)]
    return list(dict.fromkeys(folder for folder in [*own, *likely, *general] if folder is not None))
