"""A folder belongs to one process at a time."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transxnet.utils.errors import UserError
from transxnet.utils.files import CannotWrite, why_not

LOCK_FILE = ".lock"

ADVICE = "Two trainings in one folder would destroy each other's files: wait for it to end, or stop it."

_held: set[int] = set()


class InUse(UserError):
    """Another process has the folder."""


@contextmanager
def only_process(folder: Path, advice: str = ADVICE) -> Iterator[None]:
    """Hold a folder against every other process that asks for it so.

    The system lets go of what a dead process held. Processes on several machines see each other where the file system
    passes locks on (NFS does, with its lock service); where it has no locks at all, a file with the holder's name is
    the only sign, and one that a dead process left must be removed by hand.

    Args:
        folder: which exists.
        advice: a sentence for the user of the process that comes second.

    Raises:
        InUse: another process holds it; its number, machine and since when are said.
        CannotWrite: the folder is gone or can't be written to.
    """
    path = folder / LOCK_FILE
    descriptor = _acquire(path, advice)
    _held.add(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        _held.discard(descriptor)
        os.close(descriptor)


def _acquire(path: Path, advice: str) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise CannotWrite(why_not(path, error)) from error
        try:
            _lock(path, descriptor, advice)
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(descriptor)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder removed it in between


def _lock(path: Path, descriptor: int, advice: str) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        _only_by_name(path, descriptor, advice)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InUse(f"{_in_use(path, descriptor)} {advice}") from error
    except OSError:  # a file system without locks
        _only_by_name(path, descriptor, advice)
        return
    with suppress(OSError):  # the disk may be full; whoever comes second is then not told who was first
        _sign(descriptor)


def _only_by_name(path: Path, descriptor: int, advice: str) -> None:
    if os.fstat(descriptor).st_size:
        by_hand = f"This file system has no locks: if that process is no more, remove {path}."
        raise InUse(f"{_in_use(path, descriptor)} {advice} {by_hand}")
    try:
        _sign(descriptor)
    except OSError as error:
        raise CannotWrite(why_not(path, error)) from error


def _sign(descriptor: int) -> None:
    """Write who holds the folder into the file of the lock."""
    os.ftruncate(descriptor, 0)
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}, since {started}\n".encode())


def _in_use(path: Path, descriptor: int) -> str:
    os.lseek(descriptor, 0, os.SEEK_SET)
    holder = os.read(descriptor, 300).decode(errors="replace").strip() or "another process"
    return f"{path.parent} is in use by {holder}."


def _leave_to_the_parent() -> None:
    """A loader's worker can outlive the training by seconds, which must not keep the lock for so long."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
