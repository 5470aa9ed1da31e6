"""Exclusive lock of a folder.

The filelock package does not fit: it leaves its file in the folder, does not report who holds the lock, and raises on
file systems without locks unless their error is ENOSYS (NFS without a lock service gives ENOLCK).
"""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError, describe_write_error

LOCK_FILE = ".lock"

DEFAULT_ADVICE = "Wait for it to finish, or stop it."

_descriptors: set[int] = set()
"""Open lock files of this process; a forked child closes them."""


class FolderInUse(UserError):
    """Another process holds the folder."""


@contextmanager
def lock_folder(folder: Path, advice: str = DEFAULT_ADVICE) -> Iterator[None]:
    """Hold an exclusive lock on a folder.

    The operating system releases the lock when the process ends. The lock works across machines if the file system
    shares locks (NFS with its lock service). On a file system without locks, the lock is a file with the holder's name,
    and a user must remove it if its process died.

    Args:
        folder: existing folder.
        advice: sentence with the next step for the user of the second process.

    Raises:
        FolderInUse: another process holds it; the message has its PID, host and start time.
        WriteError: the folder does not exist or is not writable.
    """
    path = folder / LOCK_FILE
    descriptor = _acquire(path, advice)
    _descriptors.add(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        _descriptors.discard(descriptor)
        os.close(descriptor)


def _acquire(path: Path, advice: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise WriteError(describe_write_error(path, error)) from error
        try:
            _lock(path, descriptor, advice)
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder has removed the file in the meantime


def _lock(path: Path, descriptor: int, advice: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        _lock_by_content(path, descriptor, advice)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUse(f"{_describe_holder(path, descriptor)} {advice}") from error
    except OSError:  # a file system without locks
        _lock_by_content(path, descriptor, advice)
        return
    with suppress(OSError):  # on a full disk the second process cannot report the holder
        _write_holder(descriptor)


def _lock_by_content(path: Path, descriptor: int, advice: str) -> None:
    if os.fstat(descriptor).st_size:
        by_hand = f"This file system does not support locks: if that process no longer runs, remove {path}."
        raise FolderInUse(f"{_describe_holder(path, descriptor)} {advice} {by_hand}")
    try:
        _write_holder(descriptor)
    except OSError as error:
        raise WriteError(describe_write_error(path, error)) from error


def _write_holder(descriptor: int) -> None:
    """Write PID, host and start time into the lock file."""
    os.ftruncate(descriptor, 0)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {started}\n".encode())


def _describe_holder(path: Path, descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    holder = os.read(descriptor, 300).decode(errors="replace").strip() or "another process"
    return f"{path.parent} is in use by {holder}."


def _close_in_child() -> None:
    """Close the lock file in data loader workers, which can outlive the training process by seconds."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
