"""Find files in folders in a deterministic order."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.utils.errors import UserError


def list_images(folder: Path) -> list[Path]:
    """Image files below a folder by extension, sorted; links to folders and hidden files are skipped."""
    return [Path(path) for path in walk_images(folder)]


def walk_images(folder: str | Path) -> Iterator[str]:
    """Iterate over the paths of :func:`list_images`: a list of a million would take half a gigabyte."""
    for directory, folders, files in os.walk(folder, onerror=refuse_folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        yield from (os.path.join(directory, name) for name in sorted(files) if is_image(name))


def list_folders(root: Path) -> list[str]:
    """Names of the subfolders in a fixed order, without hidden ones."""
    try:
        names = os.listdir(root)
    except OSError as error:
        refuse_folder(error)
    return sorted(name for name in names if not name.startswith(".") and (root / name).is_dir())


def entries(folder: Path) -> list[Path]:
    """Contents of a folder, sorted; raises UserError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        refuse_folder(error)


def glob_files(pattern: str) -> Iterator[str]:
    """Iterate over the matches of a glob, where ``**`` does not follow links to folders, which may form cycles.

    Python's own glob follows them up to the system's limit: 2^40 folders with two links that lead back.
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
    """Raise the UserError for a folder that cannot be read."""
    raise UserError(f"cannot read folder {error.filename}: {error.strerror}. Check its permissions.") from error


def is_image(name: str) -> bool:
    """Whether a file has the extension of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS and not name.startswith(".")


def find_file(folder: Path, name: str) -> Path | None:
    """Find the file that an annotation names below a folder, or return None; see :func:`find_name`."""
    found = find_name(folder, name)
    return None if found is None else folder / found


def find_name(folder: str | Path, name: str) -> str | None:
    """Return the name below a folder of the file that an annotation names, or None.

    The name may contain folders, also with backslashes. If there is no such file, its last part is looked up directly
    in the folder.
    """
    plain = name.replace("\\", "/")
    candidates = (plain, plain.rpartition("/")[2])
    # Unlike Path.is_file, this does not raise for a name that is too long.
    return next((candidate for candidate in candidates if os.path.isfile(os.path.join(folder, candidate))), None)
