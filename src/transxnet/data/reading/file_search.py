"""Find files in folders in a deterministic order."""

import glob
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

from transxnet.data.reading.image_decoding import EXTENSIONS
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_text


def list_images(folder: Path, extensions: Collection[str] = EXTENSIONS) -> list[Path]:
    """Image files below a folder by extension, sorted; links to folders and hidden files are skipped."""
    return [Path(path) for path in walk_images(folder, extensions=extensions)]


def walk_images(
    folder: str | Path,
    on_other: Callable[[str], object] | None = None,
    extensions: Collection[str] = EXTENSIONS,
) -> Iterator[str]:
    """Iterate over the paths of :func:`list_images`: a list of a million would take half a gigabyte.

    Args:
        folder: the folder.
        on_other: called with the paths of all other files that are not hidden.
        extensions: extensions of image files, in lower case.
    """
    for directory, folders, files in os.walk(folder, onerror=refuse_folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            path = os.path.join(directory, name)
            if is_image(name, extensions):
                yield path
            elif on_other is not None and not name.startswith("."):
                on_other(path)


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


def is_image(name: str, extensions: Collection[str] = EXTENSIONS) -> bool:
    """Whether a file has the extension of an image."""
    return os.path.splitext(name)[1].lower() in extensions and not name.startswith(".")


def named_folders(root: Path) -> dict[str, Path]:
    """The subfolders by their names in lower case; empty if the root cannot be read."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return {}
    return {name.casefold(): root / name for name in names if (root / name).is_dir()}


def read_lines(file: Path) -> list[str]:
    """Return the lines of a text file without surrounding whitespace, and without empty ones.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return [line.strip() for line in read_text(file, errors="replace").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}. Check its permissions.") from error


class FoundFile(NamedTuple):
    """The file that an annotation names.

    Attributes:
        path: the file, or None if it was not found.
        shortened: whether leading folders of the name had to be dropped, so that the file may be that of another entry.
    """

    path: Path | None
    shortened: bool = False


def find_file(folder: Path, name: str) -> FoundFile:
    """Find the file that an annotation names below a folder.

    The name may contain folders, also with backslashes; its letters may be composed or decomposed (Unicode's NFC and
    NFD); and it may be a URL, also one of Label Studio. If there is no such file, leading folders are dropped one by
    one.
    """
    plain = name.replace("\\", "/")
    spellings = dict.fromkeys(
        form for path in (plain, _url_path(plain)) for form in (path, normalize("NFC", path), normalize("NFD", path))
    )
    # Unlike Path.is_file, os.path.isfile does not raise for a name that is too long.
    for spelling in spellings:
        if os.path.isfile(folder / spelling):
            return FoundFile(folder / spelling)
    for spelling in spellings:
        parts = [part for part in spelling.split("/") if part]
        for start in range(len(parts)):
            if os.path.isfile(candidate := folder.joinpath(*parts[start:])):
                return FoundFile(candidate, shortened=True)
    return FoundFile(None)


def find_name(folder: str | Path, name: str) -> str | None:
    """Return the path of the file that an annotation names, below the folder if it is there; see :func:`find_file`."""
    found = find_file(Path(folder), name).path
    if found is None:
        return None
    return (found.relative_to(folder) if found.is_relative_to(folder) else found).as_posix()


def _url_path(name: str) -> str:
    """The decoded path of a URL without its host; Label Studio's local files have it in the parameter ``d``."""
    try:
        url = urlsplit(name)
    except ValueError:  # such as an invalid IPv6 address
        return name
    local = parse_qs(url.query).get("d", [""])[0]
    if local:
        return local
    return unquote(url.path).lstrip("/") if "://" in name or "%" in name else name
