import os

import pytest

from transxnet.files import next_free, write_whole


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
    assert next_free(tmp_path, "run") == tmp_path / "run-3"
