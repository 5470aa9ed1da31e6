"""The report of a run: one page, self-contained, safe to open, and true to the evaluation."""

import base64
import io
import math
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_calibration_error

from tests.helpers.html_page import Page
from transxnet.metrics.classification import Evaluation
from transxnet.reports import Report, render, write_report
from transxnet.utils.errors import UserError
from transxnet.utils.files import WriteError

SECTIONS = ["model", "curves", "confusion", "classes", "mistakes", "calibration", "choices"]
SECTIONS += ["configuration", "environment", "command"]


def evaluation(num_classes: int = 2, images: int = 80, skill: float = 1.0, weights: bool = False) -> Evaluation:
    generator = np.random.default_rng(num_classes)
    labels = generator.integers(0, num_classes, images)
    logits = generator.normal(size=(images, num_classes))
    logits[np.arange(images), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Evaluation(
        class_names=[f"kind {i}" for i in range(num_classes)],
        names=[f"image{i:04d}.png" for i in range(images)],
        labels=labels,
        probabilities=probabilities.astype(np.float32),
        weights=generator.uniform(0.2, 1, images) if weights else None,
    )


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": epoch,
            "step": 10 * epoch,
            "lr": 1e-3 / epoch,
            "train_loss": 1 / epoch,
            "val_loss": 1 / epoch + 0.01 * epoch,
            "val_accuracy": 1 - 0.5 / epoch,
            "val_balanced_accuracy": 0.98 - 0.5 / epoch,
            "val_f1": 0.97 - 0.5 / epoch,
            "seconds": 30.0,
        }
        for epoch in range(1, epochs + 1)
    ]


def picture(index: int) -> Image.Image:
    return Image.new("RGB", (300, 200), (index % 256, 90, 120))


def report(judged: Evaluation | None = None, epochs: int = 6, image: Callable[[int], Image.Image] = picture) -> Report:
    return Report(
        title="transxnet_n on kinds",
        command="transxnet train --data kinds --epochs 6",
        config={"epochs": epochs, "optimizer": {"lr": 1e-3, "nesterov": False}, "limit": None},
        environment={"date": "2026-01-02", "torch": "2.11.0"},
        choices=["3 unreadable images were skipped."],
        history=history(epochs),
        evaluation=evaluation() if judged is None else judged,
        image=image,
        model={"Parameters": "3.1 M"},
    )


def test_every_section_stands_in_order_and_says_its_part():
    page = Page(render(report()))
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    for section, part in {
        "model": "3.1 M",
        "curves": "Learning rate",
        "confusion": "Confusion matrix",
        "choices": "3 unreadable images were skipped.",
        "configuration": "optimizer.nesterov",
        "environment": "2.11.0",
        "command": "transxnet train --data kinds --epochs 6",
    }.items():
        assert part in page.text[section]
    assert "2026-01-02" in page.text["p"]
    assert "null" in page.text["configuration"]
    assert "3 min 00 s" in page.text["dd"]


def test_page_loads_nothing_from_elsewhere():
    text = render(report())
    page = Page(text)
    loads = [value for name, value in page.attributes if name in {"src", "href", "xlink:href", "data", "srcset"}]
    assert all(value.startswith(("data:image/jpeg;base64,", "#")) for value in loads)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert "://" not in re.sub(r'"data:[^"]*"', "", text)
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_ids_are_unique_and_references_have_their_target():
    text = render(report())
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    references = re.findall(r"url\(#([^)]*)\)", text) + re.findall(r'href="#([^"]*)"', text)
    assert references
    assert set(references) <= set(page.ids)


def test_charts_take_their_colours_from_the_page():
    text = render(report())
    drawn = re.findall(r"(?:stroke|fill): (#[0-9a-f]{3,6})", text)
    assert drawn == []
    assert "currentColor" in text
    assert "var(--blue)" in text


def test_rendering_is_deterministic_whatever_the_users_matplotlib_settings():
    first = render(report())
    before = dict(matplotlib.rcParams)
    assert render(report()) == first
    assert dict(matplotlib.rcParams) == before
    with matplotlib.rc_context({"axes.labelsize": 30, "lines.antialiased": False, "svg.fonttype": "path"}):
        assert render(report()) == first


def test_whatever_comes_from_outside_is_escaped():
    attack = "<script>alert(1)</script>"
    judged = evaluation()
    judged = replace(judged, class_names=[attack, f'"{attack}'], names=[f"{attack}.png"] * len(judged.names))
    hostile = replace(
        report(judged),
        title=attack,
        command=f"transxnet train --data '{attack}'",
        config={attack: attack},
        environment={attack: attack, "date": attack},
        choices=[attack],
        model={attack: attack},
    )
    page = Page(render(hostile))
    assert page.tags.count("script") == 1  # the page's own
    assert "alert" not in page.text["script"]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert f"{attack}.png" in page.text["mistakes"]


@pytest.mark.parametrize(("num_classes", "weights"), [(2, True), (10, False)])
def test_numbers_are_the_evaluations(num_classes, weights):
    judged = evaluation(num_classes, images=200, weights=weights)
    page = Page(render(report(judged)))
    metrics = judged.metrics()
    assert ("weighted_accuracy" in metrics) == weights
    for value in metrics.values():
        assert f"{100 * value:.1f}%" in page.text["dd"]
    per_class = judged.per_class()
    for column in ("precision", "recall", "f1"):
        for value in per_class[column]:
            assert f"{100 * value:.1f}%" in page.text["classes"]
    wrong = int((judged.predictions != judged.labels).sum())
    assert f"The 12 of {wrong} wrong answers" in page.text["mistakes"]


def test_confusion_matrix_holds_the_counts_by_row():
    judged = evaluation(3, images=100)
    cells = re.findall(r'<td class="(none|right|wrong)"[^>]*>(?:<b>)?(\d+)', render(report(judged)))
    np.testing.assert_array_equal(np.array([int(count) for _, count in cells]).reshape(3, 3), judged.confusion)
    assert [kind for kind, _ in cells[::4]] == ["right"] * 3


def test_many_classes_show_the_most_confused_pairs():
    labels = np.repeat(np.arange(30), 10)
    answers = labels.copy()
    answers[:4] = 7  # four of class 0
    answers[10:12] = 3  # two of class 1
    names = [f"kind {i}" for i in range(30)]
    judged = Evaluation(names, [str(i) for i in range(300)], labels, np.eye(30, dtype=np.float32)[answers])
    page = render(report(judged))
    confusion = page[page.index('<section id="confusion">') : page.index('<section id="classes">')]
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td[^>]*>(\d+)</td>.*?>([\d.]+%)<", confusion)
    assert rows == [("kind 0", "kind 7", "4", "40.0%"), ("kind 1", "kind 3", "2", "20.0%")]


def test_mistakes_are_the_most_certain_ones_with_small_pictures():
    judged = evaluation()
    text = render(report(judged))
    shown = re.findall(r'alt="([^"]*)"', text)
    assert shown == [judged.names[i] for i in judged.worst_mistakes(12)]
    for data in re.findall(r"data:image/jpeg;base64,([^\"]*)", text):
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (192, 128)


def test_without_mistakes_the_page_says_so():
    judged = evaluation(skill=50)
    text = render(report(judged))
    assert "every held-out image was classified correctly" in text
    assert "<img" not in text
    many = evaluation(40, skill=50)
    assert "No class was taken for another." in render(report(many))


def test_unreadable_picture_becomes_a_placeholder():
    def unreadable(index: int) -> Image.Image:
        raise OSError("gone")

    text = render(report(image=unreadable))
    assert text.count("picture not readable") == 12
    assert "<img" not in text


def test_class_without_images_has_no_figures():
    judged = evaluation()
    judged = replace(
        judged,
        class_names=[*judged.class_names, "unseen"],
        probabilities=np.pad(judged.probabilities, ((0, 0), (0, 1))),
    )
    page = Page(render(report(judged)))
    assert "unseen\u2013\u2013\u20130" in page.text["classes"]


@pytest.mark.parametrize("epochs", [1, 300])
def test_short_and_long_histories(epochs):
    page = Page(render(report(epochs=epochs)))
    assert f"{epochs} epoch{'s' if epochs > 1 else ''}" in page.text["dd"]
    assert page.text["curves"].count("lowest held-out loss") == 1


def test_what_was_not_recorded_is_left_out():
    rows = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": math.nan}, {"epoch": 3, "train_loss": 0.25}]
    page = Page(render(replace(report(), history=rows)))
    assert "lowest training loss 0.25, epoch 3" in page.text["curves"]
    assert "Learning rate" not in page.text["curves"]
    assert "Training time" not in page.text["dt"]
    page = Page(render(replace(report(), history=[])))
    assert "No epochs were recorded." in page.text["curves"]


def test_best_epoch_ignores_nan_and_infinity():
    rows = history(4)
    rows[0]["val_accuracy"], rows[1]["val_accuracy"], rows[2]["val_loss"] = math.inf, 0.99, math.nan
    page = Page(render(replace(report(), history=rows)))
    assert "highest accuracy 99.0%, epoch 2" in page.text["curves"]
    assert "lowest held-out loss 0.29, epoch 4" in page.text["curves"]


def test_calibration_error_is_torchmetrics():
    judged = evaluation(5, images=300)
    error = multiclass_calibration_error(
        torch.from_numpy(judged.probabilities), torch.from_numpy(judged.labels), num_classes=5, n_bins=10, norm="l1"
    )
    assert (
        f"expected calibration error is {100 * float(error):.1f}%" in Page(render(report(judged))).text["calibration"]
    )


def test_a_thousand_classes_stay_small():
    text = render(report(evaluation(1000, images=2000, skill=6)))
    assert len(text.encode()) < 2_000_000
    Page(text)


def test_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run" / "report.html"
    assert write_report(report(), path) == path
    assert path.read_text(encoding="utf-8") == render(report())
    assert list(path.parent.iterdir()) == [path]

    def full(self: Path, *args: object, **kwargs: object) -> Path:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", full)
    before = path.read_text(encoding="utf-8")
    with pytest.raises(WriteError, match="disk full"):
        write_report(replace(report(), title="other"), path)
    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]


def test_reports_do_without_lightning():
    code = "import sys, transxnet.reports; sys.exit('lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def reasons(index: int) -> list[tuple[str, Image.Image]]:
    return [("picture", picture(index)), ("stage 4", picture(index))]


def test_reasons_are_shown_of_the_surest_right_and_wrong_answers():
    judged = evaluation(images=80)
    page = render(replace(report(judged), explain=reasons))
    section = page[page.index('<section id="reasons">') : page.index('<section id="calibration">')]
    surest = [*judged.surest_right(3), *judged.worst_mistakes(3)]
    assert re.findall(r'<div class="name">(.*?)</div>', section) == [judged.names[i] for i in surest]
    assert section.count("data:image/jpeg") == 2 * 6
    assert section.count("true class") == 3
    assert '<section id="reasons">' not in render(report(judged))


def test_the_page_says_why_there_are_no_reasons():
    def missing(index: int) -> list[tuple[str, Image.Image]]:
        raise UserError("Install it by: pip install 'transxnet[explain]'")

    page = render(replace(report(), explain=missing))
    assert "Not shown. Install it by: pip install &#39;transxnet[explain]&#39;" in page

    def unreadable(index: int) -> list[tuple[str, Image.Image]]:
        raise OSError("gone")

    assert "Not shown. None of the pictures can be read." in render(replace(report(), explain=unreadable))
