"""The page of a report: self-contained, safe to open, and written atomically."""

import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest

from tests.helpers.classifier_report import sample_evaluation, sample_report
from tests.helpers.html_page import Page
from transxnet.metrics.targets import ClassTargets
from transxnet.reports import render, write_report
from transxnet.reports.html_page import flatten_config
from transxnet.utils.files import WriteError

SECTIONS = [
    "model",
    "metrics",
    "curves",
    "data",
    "confusion",
    "classes",
    "thresholds",
    "mistakes",
    "calibration",
    "notes",
]
SECTIONS += ["configuration", "environment", "command"]


def test_sections_are_in_order_with_their_content():
    page = Page(render(sample_report()))
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    for section, part in {
        "model": "3.1 M",
        "metrics": "95% intervals: bootstrap over 80 images, 20 resamples, seed 0.",
        "curves": "Learning rate",
        "confusion": "Confusion matrix",
        "notes": "3 unreadable images were skipped.",
        "configuration": "optimizer.nesterov",
        "environment": "2.11.0",
        "command": "transxnet train --data kinds --epochs 6",
    }.items():
        assert part in page.text[section]
    assert "2026-01-02" in page.text["p"]
    assert "limit" not in page.text["configuration"] and "null" not in page.text["configuration"]
    assert "3 min 00 s" in page.text["dd"]


def test_page_of_an_evaluation_names_its_images():
    targets, evaluation = ClassTargets().fit(sample_evaluation())
    other = replace(sample_report(evaluation), history=[], training=False, split="", model={"Data": "elsewhere"})
    page = Page(render(other))
    assert "Evaluation report" in page.text["p"] and "validation image" not in page.text["p"]
    assert "curves" not in page.ids
    assert "the highest Youden index on the validation images." in page.text["thresholds"]
    sentence = f"Temperature {targets.temperature:.2f} of the scaling: fitted on the validation images."
    assert sentence in page.text["calibration"]
    here = Page(render(sample_report(evaluation)))
    assert "fitted on these images, so its metrics are optimistic here." in here.text["calibration"]


def test_page_loads_nothing_from_elsewhere():
    text = render(sample_report())
    page = Page(text)
    loads = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "data", "srcset"}]
    assert loads and all(value.startswith(("data:image/jpeg;base64,", "#")) for value in loads)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "://" not in re.sub(r'"data:[^"]*"', "", text)
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_ids_are_unique_and_references_have_their_target():
    text = render(sample_report())
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    references = re.findall(r"url\(#([^)]*)\)", text) + re.findall(r'href="#([^"]*)"', text)
    assert references
    assert set(references) <= set(page.ids)


def test_rendering_ignores_matplotlib_settings():
    first = render(sample_report())
    before = dict(matplotlib.rcParams)
    assert render(sample_report()) == first
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"axes.labelsize": 30, "lines.antialiased": False, "svg.fonttype": "path"}):
        assert render(sample_report()) == first


def test_text_from_outside_is_escaped():
    attack = "<script>alert(1)</script>"
    evaluation = sample_evaluation()
    evaluation = replace(
        evaluation, class_names=[attack, f'"{attack}'], names=[f"{attack}.png"] * len(evaluation.names)
    )
    hostile = replace(
        sample_report(evaluation),
        title=attack,
        command=f"transxnet train --data '{attack}'",
        config={attack: attack},
        environment={attack: attack, "date": attack},
        notes=[attack],
        model={attack: attack},
    )
    page = Page(render(hostile))
    assert page.tags.count("script") == 1  # the script of the page itself
    assert "alert" not in page.text["script"]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert f"{attack}.png" in page.text["mistakes"]


def test_page_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run" / "report.html"
    assert write_report(sample_report(), path) == path
    assert path.read_text(encoding="utf-8") == render(sample_report())
    assert list(path.parent.iterdir()) == [path]

    def full(self: Path, *args: object, **kwargs: object) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(WriteError, match="disk full"):
        write_report(replace(sample_report(), title="other"), path)
    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]


def test_flatten_config_joins_nested_names_with_dots():
    config = {"a": 1, "b": {"c": None, "d": {"e": True}}, "f": {}, "g": "text"}
    flat = [("a", "1"), ("b.c", "null"), ("b.d.e", "true"), ("f", "{}"), ("g", "text")]
    assert list(flatten_config(config)) == flat
