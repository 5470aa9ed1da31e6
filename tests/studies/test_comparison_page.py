import json
import re
import shutil

import pytest

from tests.helpers.html_page import Page
from transxnet.runs.run_folder import Run
from transxnet.studies.comparison_page import (
    comparison_html,
    comparison_json,
    list_comparison_notes,
    print_comparison,
    write_comparison,
)
from transxnet.studies.run_comparison import compare_runs
from transxnet.studies.study_facts import RUNS_CAUTION


@pytest.fixture(scope="module")
def compared(whole):
    runs = [Run(whole.folder.path / name) for name in ("test_resnet-fold1-seed0", "test_vit-fold1-seed0")]
    return compare_runs(runs, None, None, 100)


def test_page_has_metrics_intervals_curves_and_options(compared):
    text = comparison_html(compared)
    page = Page(text)
    assert "accuracy" in page.text["metrics"] and "test_vit" in page.text["options"]
    value = compared.paired.rows["test_vit-fold1-seed0"]["accuracy"]
    assert f"{value.value:.3f} {value.low:.3f} to {value.high:.3f}" in page.text["metrics"]
    assert page.text["metrics"].lower().count("balanced accuracy") == 1
    assert f"Comparison with {compared.paired.best}" in page.text["comparison"]
    assert "Validation accuracy" in page.text["curves"] and "Training loss" in page.text["curves"]
    assert RUNS_CAUTION in page.text["notes"]
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r'(?:src|href)="https?:', text)


def test_page_of_other_tasks_has_no_intervals(maps_run, boxes_run, tmp_path):
    for run in (maps_run, boxes_run):
        other = Run(shutil.copytree(run.path, tmp_path / run.path.name))
        page = Page(comparison_html(compare_runs([run, other], None, None, 100)))
        assert (
            "interval" not in page.text["metrics"]
            and "comparison" not in page.text
            and "all options are equal" in page.text["options"]
        )


def test_files_hold_plain_data(compared, tmp_path):
    page, data = write_comparison(compared, tmp_path / "new")
    assert page.read_text() == comparison_html(compared)
    assert json.loads(data.read_text()) == json.loads(json.dumps(comparison_json(compared)))


def test_terminal_shows_metrics_and_comparisons(compared, console):
    print_comparison(compared, console)
    shown = " ".join(console.file.getvalue().split())
    assert "balanced accuracy" in shown and f"minus {compared.paired.best}" in shown
    assert "Intervals: 95%" in shown


def test_notes_depend_on_the_split(compared, whole):
    assert not any("optimistic" in note for note in list_comparison_notes(compared))
    validated = compare_runs(list(compared.runs.values()), "validation", None, 100)
    assert any("selected the epoch of each run" in note for note in list_comparison_notes(validated))
