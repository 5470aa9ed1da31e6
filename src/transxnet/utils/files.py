"""Atomic writing of files, and messages for the errors of a file system."""

import errno
import os
import re
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from transxnet.utils.errors import UserError

ESCAPED_UTF8: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
"""Arguments of ``open`` for text with file names, whose bytes need not be valid UTF-8."""

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Make room there."),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Make the folder writable."),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV), "Its folder is gone: bring it back."),
    **dict.fromkeys((errno.EIO, errno.EBUSY, errno.ETIMEDOUT), "The disk or its connection fails: look after it."),
}
"""The next step for the user, by error number."""


class WriteError(UserError):
    """A file cannot be written: the disk is full, read-only or gone."""


def describe_write_error(path: Path, error: OSError) -> str:
    """Describe why a file cannot be written, and the next step."""
    return f"cannot write {path}: {describe_os_error(error)}"


def describe_os_error(error: OSError) -> str:
    """Describe an error of the operating system, and the next step."""
    return f"{error.strerror or error}. {_REMEDIES.get(error.errno or 0, '')}".rstrip()


def is_disk_error(error: OSError) -> bool:
    """Whether a disk is full, read-only or failing, as opposed to a single file that is missing or protected."""
    return error.errno in _REMEDIES and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM)


def write_whole(path: Path, content: str | Callable[[Path], object], backup: Path | None = None) -> None:
    """Write a file atomically: at every moment, also after a power cut, it is the complete old or new one.

    Args:
        path: the file.
        content: its text, or a function that writes it to the path that it is given.
        backup: where the old file is moved once the new one is on the disk; for an instant ``path`` does not exist.

    Raises:
        WriteError: the disk is full, read-only or gone; the old file is as it was.
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
        with suppress(OSError):  # a read-only disk refuses to remove even what is not there
            temporary.unlink(missing_ok=True)


def is_partial_file(name: str, names: Collection[str]) -> bool:
    """Whether :func:`write_whole`, when killed, leaves a file of this name for one of these names."""
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{32}", name)
    return match is not None and match[1] in names


def remove_partial_files(folder: Path, names: Collection[str]) -> None:
    """Remove the partial files that a killed process left for these names."""
    for path in list(folder.iterdir()):
        if is_partial_file(path.name, names):
            path.unlink(missing_ok=True)


def _fsync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _fsync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk: otherwise a power cut can undo a rename."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no such thing
            raise
    finally:
        os.close(descriptor)


def safe_file_name(text: str) -> str:
    """A file name that needs no quoting in a shell: ``"net@scales=(1,3)"`` -> ``"net-scales=1,3"``."""
    return re.sub(r"[^\w.,=-]+", "-", re.sub(r"[()\[\]'\" ]", "", text)).strip("-")


def next_free_path(root: Path, stem: str) -> Path:
    """The first of ``root/stem-1``, ``root/stem-2`` and so on that does not exist."""
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return root / f"{stem}-{number}"
