import errno
import os

import pytest

from transxnet.utils.files import (
    WriteError,
    cache_folder,
    next_free_folder,
    next_free_path,
    remove_partial_files,
    write_atomic,
)


def test_file_is_written_completely_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomic(path, fail)
    assert path.read_text() == "old"
    write_atomic(path, lambda temporary: temporary.write_bytes(b"new"))
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_file_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_file_names_that_are_not_utf8_are_written(tmp_path):
    write_atomic(tmp_path / "a.txt", os.fsdecode(b"a\xff\n"))
    assert (tmp_path / "a.txt").read_bytes() == b"a\xff\n"


def test_next_free_path_has_the_first_free_number(tmp_path):
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-2").write_text("")
    (tmp_path / "run-4").mkdir()
    assert next_free_path(tmp_path, "run") == tmp_path / "run-3"


def test_previous_file_is_kept_as_backup(tmp_path):
    path, kept = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two", "three"):
        write_atomic(path, text, backup=kept)
    assert (path.read_text(), kept.read_text()) == ("three", "two")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE, errno.EDQUOT])
@pytest.mark.parametrize("when", ["write", "flush"])
def test_disk_error_is_described_and_old_files_stay(tmp_path, monkeypatch, fault, when):
    path, kept = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two"):
        write_atomic(path, text, backup=kept)

    def fail(*_):
        raise OSError(fault, os.strerror(fault))

    if when == "flush":
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError) as caught:
        write_atomic(path, fail if when == "write" else "three", backup=kept)
    assert str(caught.value).startswith(f"cannot write {path}: {os.strerror(fault)}. ")
    assert (path.read_text(), kept.read_text()) == ("two", "one")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


def test_file_then_folder_are_synced_to_disk(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def note(descriptor):
        flushed.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))
        fsync(descriptor)

    path = tmp_path / "a.txt"
    monkeypatch.setattr(os, "fsync", note)
    write_atomic(path, "x")
    (temporary, before), (folder, after) = flushed
    assert temporary.startswith(f"{tmp_path}/.a.txt.")
    assert (before, folder, after) == (False, str(tmp_path), True)


def test_only_partial_files_are_removed(tmp_path):
    left = f".last.ckpt.{'0f' * 16}"
    others = ["last.ckpt", ".last.ckpt", ".last.ckpt.0f", f".mine.{'0f' * 16}", f"last.ckpt.{'0f' * 16}"]
    for name in [left, *others]:
        (tmp_path / name).touch()
    remove_partial_files(tmp_path, ["last.ckpt"])
    assert sorted(os.listdir(tmp_path)) == sorted(others)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "transxnet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "transxnet"


def test_free_folder_gets_the_first_number_without_results(tmp_path):
    assert next_free_folder(tmp_path / "out", ["a.csv"]) == tmp_path / "out"
    for name in ("out", "out-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").touch()
    assert next_free_folder(tmp_path / "out", ["a.csv"]) == tmp_path / "out-3"
    assert next_free_folder(tmp_path / "out", ["b.csv"]) == tmp_path / "out"
