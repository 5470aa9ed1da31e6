"""Result files of an analysis: written completely, read back, never overwritten by accident."""

import csv
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from transxnet.analysis.result_files import check_output_folder, output_folder, write_results
from transxnet.utils.errors import UserError

NAMES = ("a.png", "a.csv", "a.json")


def test_results_round_trip(tmp_path):
    rows = [{"name": 'x, "y"', "value": 1.5}, {"name": "ü", "value": 2}]
    paths = write_results(tmp_path / "new" / "out", NAMES, Figure(figsize=(1, 1)), rows, {"label": "net"})
    assert [path.name for path in paths] == list(NAMES)
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(NAMES)
    assert Image.open(paths[0]).format == "PNG"
    read = list(csv.DictReader(paths[1].open(encoding="utf-8")))
    assert [(row["name"], float(row["value"])) for row in read] == [('x, "y"', 1.5), ("ü", 2)]
    record = json.loads(paths[2].read_text())
    assert record["label"] == "net"
    assert "torch" in record["environment"]


def test_existing_files_are_an_error_unless_overwrite(tmp_path):
    check_output_folder(tmp_path / "new", NAMES, False)
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=r"already contains a\.csv\. Choose another --out, or use --overwrite"):
        check_output_folder(tmp_path, NAMES, False)
    check_output_folder(tmp_path, NAMES, True)


def test_output_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "a.csv").touch()
    with pytest.raises(UserError, match=r"is a file, but --out must be a folder, for a\.png, a\.csv, a\.json"):
        check_output_folder(tmp_path / "a.csv", NAMES, True)


def test_default_folder_gets_a_number_if_it_has_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert output_folder(None, "erf", NAMES, False) is None
    assert output_folder("erf", "erf", NAMES, False) == Path("erf")
    for folder in ("erf", "erf-2", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / NAMES[1]).touch()
    assert output_folder("erf", "erf", NAMES, False) == Path("erf-3")
    assert output_folder("erf", "erf", NAMES, True) == Path("erf")
    with pytest.raises(UserError, match="mine already contains"):
        output_folder("mine", "erf", NAMES, False)
