import errno
import os

import pytest

from transxnet.utils.files import WriteError, next_free_path, remove_partial_files, write_whole


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert path.read_text() == "old"
    write_whole(path, lambda temporary: temporary.write_bytes(b"new"))
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_can_be_read_as_the_user_s_other_files_can(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_names_that_are_not_text_are_written_as_they_are(tmp_path):
    write_whole(tmp_path / "a.txt", os.fsdecode(b"a\xff\n"))
    assert (tmp_path / "a.txt").read_bytes() == b"a\xff\n"


def test_the_first_free_number_is_taken(tmp_path):
    (tmp_path / "run-1").mkdir()
    (tmp_path / "run-2").write_text("")
    (tmp_path / "run-4").mkdir()
    assert next_free_path(tmp_path, "run") == tmp_path / "run-3"


def test_the_old_file_is_kept_where_one_says(tmp_path):
    path, kept = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two", "three"):
        write_whole(path, text, backup=kept)
    assert (path.read_text(), kept.read_text()) == ("three", "two")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE, errno.EDQUOT])
@pytest.mark.parametrize("when", ["write", "flush"])
def test_a_failing_disk_is_said_and_the_old_files_stay(tmp_path, monkeypatch, fault, when):
    path, kept = tmp_path / "last", tmp_path / "previous"
    for text in ("one", "two"):
        write_whole(path, text, backup=kept)

    def fail(*_):
        raise OSError(fault, os.strerror(fault))

    if when == "flush":
        monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError) as caught:
        write_whole(path, fail if when == "write" else "three", backup=kept)
    assert str(caught.value).startswith(f"cannot write {path}: {os.strerror(fault)}. ")
    assert (path.read_text(), kept.read_text()) == ("two", "one")
    assert sorted(os.listdir(tmp_path)) == ["last", "previous"]


def test_the_file_and_then_its_name_are_flushed(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def note(descriptor):
        flushed.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))
        fsync(descriptor)

    path = tmp_path / "a.txt"
    monkeypatch.setattr(os, "fsync", note)
    write_whole(path, "x")
    (temporary, before), (folder, after) = flushed
    assert temporary.startswith(f"{tmp_path}/.a.txt.")
    assert (before, folder, after) == (False, str(tmp_path), True)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    left = f".last.ckpt.{'0f' * 16}"
    others = ["last.ckpt", ".last.ckpt", ".last.ckpt.0f", f".mine.{'0f' * 16}", f"last.ckpt.{'0f' * 16}"]
    for name in [left, *others]:
        (tmp_path / name).touch()
    remove_partial_files(tmp_path, ["last.ckpt"])
    assert sorted(os.listdir(tmp_path)) == sorted(others)
