import json
import os

import pytest

from transxnet.data.reading.table_files import is_table, open_table
from transxnet.utils.errors import UserError

CSV = b"path,label\n0.png,cat\n1.png,dog\n"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, *columns):
    table = open_table(path)
    return [cells for _, cells in table.rows(columns or table.columns)]


@pytest.mark.parametrize(
    "content",
    [
        CSV,
        b"\xef\xbb\xbf" + CSV,
        CSV.replace(b"\n", b"\r\n"),
        CSV.replace(b"\n", b"\r"),
        CSV.replace(b",", b";"),
        CSV.replace(b",", b"\t"),
        CSV.replace(b",", b" , "),
        CSV.replace(b"\n", b"\n\n"),
        CSV.replace(b"\n", b",\n"),
        CSV.rstrip(),
        CSV.decode().encode("utf-16"),
        b"\xfe\xff" + CSV.decode().encode("utf-16-be"),
        b'"path","label"\n"0.png","cat"\n"1.png","dog"\n',
    ],
)
def test_all_forms_of_csv_are_read(tmp_path, content):
    assert read(write(tmp_path / "t.csv", content), "path", "label") == [["0.png", "cat"], ["1.png", "dog"]]


def test_tsv_is_read_with_commas_in_its_cells(tmp_path):
    assert read(write(tmp_path / "t.tsv", "path\ta,b,c\n0.png\t1,2\n")) == [["0.png", "1,2"]]


def test_quoted_cells_hold_separators_and_line_breaks(tmp_path):
    table = open_table(write(tmp_path / "t.csv", 'path,label\n0.png,"a, ""b""\nc"\n1.png,d\n'))
    assert list(table.rows(["label"])) == [(3, ['a, "b"\nc']), (4, ["d"])]


def test_ragged_rows_have_no_cells_but_their_line(tmp_path):
    table = open_table(write(tmp_path / "t.csv", "path,label\n0.png\n1.png,dog\n2.png,a,b\n"))
    assert list(table.rows(["path"])) == [(2, None), (3, ["1.png"]), (4, None)]
    assert table.head(["path"]) == [["1.png"]]


def test_json_lines_have_text_numbers_lists_and_empty_cells(tmp_path):
    rows = [{"path": " 0.png", "n": 1}, {"path": "1.png", "labels": ["a", 2, True], "n": None}, {"n": float("nan")}]
    path = write(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    table = open_table(path)
    assert table.columns == ["path", "n", "labels"]
    assert list(table.rows(["path", "labels", "n"])) == [
        (1, ["0.png", "", "1"]),
        (2, ["1.png", ("a", "2", "1"), ""]),
        (3, ["", "", ""]),
    ]


def test_parquet_is_read_like_json_lines(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    columns = {"path": ["0.png", "1.png"], "labels": [["a", "b"], None], "x.y": [1.5, float("nan")], "k": [True, None]}
    write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    assert table.columns == list(columns)
    assert list(table.rows(["path"])) == [(1, ["0.png"]), (2, ["1.png"])]
    assert list(table.rows(["x.y", "path", "labels", "k"])) == [
        (1, ["1.5", "0.png", ("a", "b"), "1"]),
        (2, ["", "1.png", "", ""]),
    ]


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("transxnet.utils.optional_packages.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"Reading Parquet needs the package pyarrow.*transxnet\[parquet\]"):
        open_table(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("t.csv", b"path,label\n\xff.png,a\n", "can't decode byte 0xff"),
        ("t.csv", CSV.decode().encode("utf-16-le"), "null bytes"),
        ("t.csv", b'path,label\n"0.png,a\n', "unexpected end of data"),
        ("t.csv", b"path,label\n" + b"x" * 200_000 + b",a\n", "field larger than field limit"),
        ("t.jsonl", b"[1, 2]\n", "line 1 is not a JSON object"),
        ("t.jsonl", b'{"path": {"bytes": 1}}\n', "contains dict"),
        ("t.jsonl", b'{"path": "\\ud800"}\n', "surrogates not allowed"),
        ("t.jsonl", b"[" * 100_000, "nested too deeply"),
        ("t.parquet", b"PAR1", "file"),
    ],
)
def test_damaged_tables_are_refused_with_the_reason(tmp_path, name, content, reason):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=rf"cannot read .*{reason}.*Accepted: CSV, TSV or JSON Lines"):
        read(write(tmp_path / name, content))


def test_pipe_and_folder_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe.csv", "folder.csv", "missing.csv"):
        with pytest.raises(UserError, match="cannot read"):
            open_table(tmp_path / name)


def test_tables_are_known_by_extension():
    assert [is_table(name) for name in ("a.CSV", "a.parquet", "a.json", "a.txt", "csv")] == [True, True, *[False] * 3]
