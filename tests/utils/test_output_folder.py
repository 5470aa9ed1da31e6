"""Results are never overwritten by accident."""

from pathlib import Path

import pytest

from transxnet.utils.errors import UserError
from transxnet.utils.output_folder import check_output_folder, output_folder

NAMES = ("a.png", "a.csv", "a.json")


def test_existing_files_are_an_error_unless_overwrite(tmp_path):
    check_output_folder(tmp_path / "new", NAMES, False)
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=r"already contains a\.csv\. Choose another --out, or use --overwrite"):
        check_output_folder(tmp_path, NAMES, False)
    check_output_folder(tmp_path, NAMES, True)


def test_output_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=r"is a file, but --out must be a folder\. Choose another --out"):
        check_output_folder(tmp_path / "a.csv", NAMES, True)


def test_default_folder_gets_a_number_if_it_has_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_folder("erf", "erf", NAMES, False) == Path("erf")
    for folder in ("erf", "erf-2", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / NAMES[1]).touch()
    assert output_folder("erf", "erf", NAMES, False) == Path("erf-3")
    assert output_folder("erf", "erf", NAMES, True) == Path("erf")
    with pytest.raises(UserError, match="mine already contains"):
        output_folder("mine", "erf", NAMES, False)
