"""Write files atomically, and describe file system errors."""

import errno
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from transxnet.utils.errors import UserError

ESCAPED_UTF8: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
"""Arguments of ``open`` for text with file names, whose bytes need not be valid UTF-8."""

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some disk space."),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Make the folder writable."),
    **dict.fromkeys(
        (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV), "Its folder no longer exists: restore it."
    ),
    **dict.fromkeys((errno.EIO, errno.EBUSY, errno.ETIMEDOUT), "The disk or the connection to it failed: check it."),
}
"""Next step for the user, by errno."""


class WriteError(UserError):
    """A file cannot be written: the disk is full, read-only or missing."""


def describe_write_error(path: Path, error: OSError) -> str:
    """Describe why a file cannot be written, and the next step."""
    return f"cannot write {path}: {describe_os_error(error)}"


def describe_os_error(error: OSError) -> str:
    """Describe an OSError and the next step."""
    return f"{error.strerror or error}. {_REMEDIES.get(error.errno or 0, '')}".rstrip()


def is_disk_error(error: OSError) -> bool:
    """Return whether the disk is full, read-only or failing, not just a single file missing or protected."""
    return error.errno in _REMEDIES and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM)


def write_atomic(path: Path, content: str | Callable[[Path], object], backup: Path | None = None) -> None:
    """Write a file atomically: at any time, even after a power failure, it is the complete old or new file.

    Args:
        path: file to write.
        content: text, or a function that writes the content to a given path.
        backup: path to move the old file to once the new one is on disk; for an instant ``path`` does not exist.

    Raises:
        WriteError: the disk is full, read-only or missing; the old file is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_text(content, encoding="utf-8", errors="surrogateescape")
        _fsync_file(temporary)
        if backup is not None:
            with suppress(FileNotFoundError):
                path.replace(backup)
        temporary.replace(path)
        _fsync_folder(path.parent)
    except OSError as error:
        raise WriteError(describe_write_error(path, error)) from error
    finally:
        with suppress(OSError):  # fails on a read-only disk even if the file does not exist
            temporary.unlink(missing_ok=True)


def is_partial_file(name: str, names: Collection[str]) -> bool:
    """Return whether a killed :func:`write_atomic` leaves a partial file of this name for one of ``names``."""
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{32}", name)
    return match is not None and match[1] in names


def remove_partial_files(folder: Path, names: Collection[str]) -> None:
    """Remove the partial files that a killed process left behind for these names."""
    for path in list(folder.iterdir()):
        if is_partial_file(path.name, names):
            path.unlink(missing_ok=True)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk; otherwise a power failure can undo a rename."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # unsupported by some network file systems
            raise
    finally:
        os.close(descriptor)


def safe_file_name(text: str) -> str:
    """Return a file name that needs no shell quoting: ``"net@scales=(1,3)"`` -> ``"net-scales=1,3"``."""
    return re.sub(r"[^\w.,=-]+", "-", re.sub(r"[()\[\]'\" ]", "", text)).strip("-")


def cache_folder() -> Path:
    """Return the folder for files that are made once and kept: ``transxnet`` in XDG_CACHE_HOME or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "transxnet"


def next_free_path(root: Path, stem: str) -> Path:
    """Return the first of ``root/stem-1``, ``root/stem-2`` and so on that does not exist."""
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return root / f"{stem}-{number}"


def next_free_folder(folder: Path, names: Iterable[str]) -> Path:
    """Return the first of FOLDER, FOLDER-2, FOLDER-3 and so on that contains none of these files and folders."""
    names, found, number = list(names), folder, 1
    while any((found / name).exists() for name in names):
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found
