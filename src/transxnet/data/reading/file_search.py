"""Finding files in folders, in a fixed order, whatever the names and links."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.utils.errors import UserError


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder by their ending, sorted; links to folders are not followed, hidden files left out."""
    return [Path(path) for path in walk_images(folder)]


def walk_images(folder: str | Path) -> Iterator[str]:
    """The paths of :func:`list_images` one by one: a million of them would take half a gigabyte."""
    for directory, folders, files in os.walk(folder, onerror=refuse_folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (os.path.join(directory, name) for name in sorted(files) if is_image(name))


def list_folders(root: Path) -> list[str]:
    """PackedStrings of the sub-folders, hidden ones left out, in a fixed order."""
    try:
        names = os.listdir(root)
    except OSError as error:
        refuse_folder(error)
    return sorted(name for name in names if not name.startswith(".") and (root / name).is_dir())


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; raises UserError where it can't be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        refuse_folder(error)


def glob_files(pattern: str) -> Iterator[str]:
    """The names that a glob finds, where ``**`` does not follow links to folders: they can go round in circles.

    Python's own follows them until the system has enough, which takes 2^40 folders where two links lead back.
    """
    before, stars, after = f"/{pattern}/".partition("/**/")
    if not stars:
        yield from glob.iglob(pattern)
        return
    base = before[1:] or ("/" if pattern.startswith("/") else "")
    for start in glob.iglob(base) if glob.has_magic(base) else [base]:
        for directory, folders, _ in os.walk(start or "."):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = os.path.relpath(directory, start or ".")
            names = [glob.escape(part) for part in (start, below) if part not in ("", ".")]
            yield from glob_files(os.path.join(*names, after.rstrip("/") or "*"))


def refuse_folder(error: OSError) -> NoReturn:
    """Raise the UserError of a folder that can't be read."""
    raise UserError(f"the folder {error.filename} can't be read: {error.strerror}. Check its permissions.") from error


def is_image(name: str) -> bool:
    """Whether a file is an image by its ending."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")


def find_file(folder: Path, name: str) -> Path | None:
    """The file that an annotation names below a folder, or None.

    The name may have folders in front, and backslashes between them; where there is no such file, its last part counts,
    directly in the folder.
    """
    plain = name.replace("\\", "/")
    candidates = (folder / plain, folder / plain.rpartition("/")[2])
    # Unlike Path.is_file, this is no error for a name that is too long for a file.
    return next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
