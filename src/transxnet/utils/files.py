"""Writing files so that nothing half-written is ever found."""

import errno
import os
import re
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from transxnet.utils.errors import UserError

ANY_TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace"}
"""How text is written that may hold file names, whose bytes need not be text."""


_NEXT_STEPS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Make room there."),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "Make the folder writable."),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENODEV), "Its folder is gone: bring it back."),
    **dict.fromkeys((errno.EIO, errno.EBUSY, errno.ETIMEDOUT), "The disk or its connection fails: look after it."),
}
"""What mends the failures of a file system."""


class CannotWrite(UserError):
    """A file can't be written: the disk is full, read-only or gone."""


def why_not(path: Path, error: OSError) -> str:
    """A sentence for the user on why a file can't be written, and what to do."""
    return f"cannot write {path}: {reason(error)}"


def reason(error: OSError) -> str:
    """What the system says of a file, and what to do."""
    return f"{error.strerror or error}. {_NEXT_STEPS.get(error.errno or 0, '')}".rstrip()


def of_the_disk(error: OSError) -> bool:
    """Whether an error says that a disk is full, read-only or failing, rather than that one file is missing."""
    return error.errno in _NEXT_STEPS and error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM)


def write_whole(path: Path, content: str | Callable[[Path], object], keep: Path | None = None) -> None:
    """Write a file so that at every moment, even of a power cut, it is either the old one or the new one, whole.

    Args:
        path: the file.
        content: its text, or a function that writes it to the path that it is given.
        keep: where the old file goes. It is moved there once the new one is on the disk, so for an instant there is
            nothing at ``path``.

    Raises:
        CannotWrite: the disk is full, read-only or gone; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if callable(content):
            content(temporary)
        else:
            temporary.write_text(content, encoding="utf-8", errors="surrogateescape")
        _flush(temporary)
        if keep is not None:
            with suppress(FileNotFoundError):
                path.replace(keep)
        temporary.replace(path)
        _flush_names(path.parent)
    except OSError as error:
        raise CannotWrite(why_not(path, error)) from error
    finally:
        with suppress(OSError):  # a read-only disk refuses to remove even what is not there
            temporary.unlink(missing_ok=True)


def is_half_written(name: str, names: Collection[str]) -> bool:
    """Whether a file of this name is what :func:`write_whole` leaves, when its process is killed, of one of these."""
    match = re.fullmatch(r"\.(.+)\.[0-9a-f]{32}", name)
    return match is not None and match[1] in names


def remove_half_written(folder: Path, names: Collection[str]) -> None:
    """Remove what a killed process left of files of these names."""
    for path in list(folder.iterdir()):
        if is_half_written(path.name, names):
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flush_names(folder: Path) -> None:
    """Bring a folder's names to the disk: else a power cut can undo the renaming."""
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


def plain_name(text: str) -> str:
    """A name for files that a shell takes as it is: ``"net@scales=(1,3)"`` -> ``"net-scales=1,3"``."""
    return re.sub(r"[^\w.,=-]+", "-", re.sub(r"[()\[\]'\" ]", "", text)).strip("-")


def next_free(root: Path, stem: str) -> Path:
    """The first of ``root/stem-1``, ``root/stem-2`` and so on that does not exist."""
    number = 1
    while (root / f"{stem}-{number}").exists():
        number += 1
    return root / f"{stem}-{number}"
