"""The results of check: page, JSON, table and summary."""

import csv
import io
import json
from pathlib import Path

from tests.helpers.html_page import Page
from transxnet.checking.check_report import print_summary, tally, to_csv, to_dict, to_html, write_results


def test_page_is_complete_and_self_contained(planted):
    text = to_html(planted, Path("out"))
    page = Page(text)
    kinds = ["unreadable", "exact_leak", "near_leak", "exact_conflict", "exact_duplicate", "near_duplicate"]
    assert page.ids == [*kinds, "data"]
    assert "train, a, exclude" in page.text["exact_leak"] and "val, a, review" in page.text["exact_leak"]
    assert "--exclude</span> <span>out/fixes.csv" in text
    sources = [value for name, value in page.attributes if name == "src"]
    assert len(sources) >= 20
    assert all(value.startswith("data:image/jpeg") for value in sources)
    assert "http:" not in text
    assert "https:" not in text


def test_table_has_a_row_for_each_image_of_each_finding(planted):
    rows = list(csv.DictReader(io.StringIO(to_csv(planted))))
    (leak,) = [row for row in rows if row["problem"] == "exact_leak" and row["action"] == "exclude"]
    assert (leak["image"], leak["set"], leak["label"]) == ("a/02.png", "train", "a")
    assert len(rows) == sum(len(finding.images) for finding in planted.findings)


def test_json_has_counts_and_all_findings(planted):
    content = json.loads(json.dumps(to_dict(planted)))
    assert content["images"] == {"train": 39, "val": 12}
    assert content["modes"] == {"RGB": 50}
    assert content["sizes"][0] == [96, 96, 46]
    assert len(content["findings"]) == len(planted.findings)


def test_boxes_are_drawn_on_thumbnails(bad_boxes):
    assert "cat, 2x20 in 80x60" in Page(to_html(bad_boxes, Path("out"))).text["box_tiny"]


def test_summary_counts_the_findings(planted, console):
    print_summary(planted, console)
    text = console.file.getvalue()
    assert "train 39, val 12 images of 2 classes" in text
    assert "1  Exact duplicates in two sets, first: train a/02.png = val a/02-leak.png" in text


def test_files_are_written(planted, tmp_path):
    paths = write_results(planted, tmp_path / "out")
    assert [path.name for path in paths] == ["check.html", "check.json", "fixes.csv"]
    assert all(path.stat().st_size for path in paths)


def test_tally_puts_the_most_frequent_first():
    assert list(tally(["b", "a", "a"]).items()) == [("a", 2), ("b", 1)]
