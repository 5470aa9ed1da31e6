import errno
import fcntl
import os
import signal
import socket
import time

import pytest

from transxnet.utils.files import WriteError
from transxnet.utils.locks import LOCK_FILE, FolderInUse, lock_folder


def in_a_child(work) -> int:
    """Run a function in a forked process; returns its PID."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except FolderInUse:
            os._exit(7)
        finally:
            os._exit(1)
    return child


def status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def hold(folder) -> None:
    with lock_folder(folder):
        pass


def test_error_names_the_holder_of_the_lock(tmp_path):
    with lock_folder(tmp_path):
        assert status(in_a_child(lambda: hold(tmp_path))) == 7
        with pytest.raises(FolderInUse) as caught, lock_folder(tmp_path, "Choose another folder."):
            pass
        assert f"{tmp_path} is in use by process {os.getpid()} on {socket.gethostname()}, since 20" in str(caught.value)
        assert str(caught.value).endswith(". Choose another folder.")
        assert status(in_a_child(lambda: hold(tmp_path))) == 7  # the second attempt did not release the lock
    assert list(tmp_path.iterdir()) == []
    assert status(in_a_child(lambda: hold(tmp_path))) == 0


def test_error_releases_the_lock(tmp_path):
    with pytest.raises(RuntimeError), lock_folder(tmp_path):
        raise RuntimeError
    hold(tmp_path)


def test_killed_process_releases_the_lock_despite_workers(tmp_path):
    reading, writing = os.pipe()

    def work() -> None:
        with lock_folder(tmp_path):
            os.write(writing, b"%d\n" % in_a_child(lambda: time.sleep(60)))
            time.sleep(60)

    child = in_a_child(work)
    worker = int(os.read(reading, 20))
    assert status(in_a_child(lambda: hold(tmp_path))) == 7
    os.kill(child, signal.SIGKILL)
    assert status(child) == -9
    os.kill(worker, 0)
    assert (tmp_path / LOCK_FILE).exists()
    hold(tmp_path)
    os.kill(worker, signal.SIGKILL)
    for descriptor in (reading, writing):
        os.close(descriptor)


def no_locks(descriptor, operation):
    raise OSError(errno.ENOLCK, "No locks available")


def test_file_system_without_locks_uses_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        lock_folder(tmp_path),
        pytest.raises(FolderInUse, match=r"if that process no longer runs, remove .*\.lock"),
        lock_folder(tmp_path),
    ):
        pass
    hold(tmp_path)


def full(descriptor, line):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_does_not_prevent_locking(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", full)
    with (
        lock_folder(tmp_path),
        pytest.raises(FolderInUse, match=r"is in use by another process\. Wait for it to finish"),
        lock_folder(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_full_disk_without_locks_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", no_locks)
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        with pytest.raises(WriteError, match=r"cannot write .*\.lock: No space left on device\. Free some disk space"):
            hold(tmp_path)
    hold(tmp_path)


def test_missing_folder_is_an_error(tmp_path):
    with pytest.raises(WriteError, match=r"cannot write .*: No such file or directory\. Its folder no longer exists"):
        hold(tmp_path / "none")
