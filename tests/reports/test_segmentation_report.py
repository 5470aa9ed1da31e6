"""The report of a segmenter: its metrics, confusions and images."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.html_page import Page
from transxnet.data.datasets.image_collection import FileImages
from transxnet.data.datasets.segmentation_dataset import IGNORE, SegmentationSet
from transxnet.metrics.segmentation import SegmentationEvaluation, SegmentationMetric
from transxnet.reports import Report, render
from transxnet.reports.colors import palette

SECTIONS = ["model", "curves", "confusion", "classes", "examples", "notes", "configuration", "environment", "command"]


def halves(wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth with 10 ignored rows, class 0 and class 1 below, and a prediction with wrong rows in class 1."""
    labels = np.zeros((110, 100), np.uint8)
    labels[:10] = IGNORE
    labels[60:] = 1
    predicted = np.where(labels == IGNORE, 0, labels).astype(np.uint8)
    predicted[60 : 60 + wrong] = 0
    return labels, predicted


def segments(folder: Path, wrong: list[int], num_classes: int = 2) -> SegmentationEvaluation:
    """Images with predictions that miss the given numbers of the 50 rows of class 1."""
    for i, rows in enumerate(wrong):
        Image.new("RGB", (100, 110), (200, 40, 40)).save(folder / f"{i}.png")
        Image.fromarray(halves(rows)[0]).save(folder / f"{i}-labels.png")
    lookup = np.full(256, IGNORE, np.uint8)
    lookup[:num_classes] = np.arange(num_classes)
    images = SegmentationSet(
        storage=FileImages([str(folder / f"{i}.png") for i in range(len(wrong))]),
        map_paths=[str(folder / f"{i}-labels.png") for i in range(len(wrong))],
        names=[f"image {i}" for i in range(len(wrong))],
        class_names=[f"kind {i}" for i in range(num_classes)],
        lookup=lookup,
    )
    metric = SegmentationMetric(images)
    for rows in wrong:
        labels, predicted = halves(rows)
        metric.update(predicted, labels)
    return metric.compute()


def report(evaluation: SegmentationEvaluation) -> Report:
    return Report(
        title="sfpn on kinds",
        command="transxnet train --data kinds",
        config={},
        environment={"date": "2026-01-02"},
        notes=[],
        history=[
            {"epoch": 1, "lr": 1e-4, "train_loss": 2.0, "val_loss": 2.5, "val_miou": 0.2, "val_pixel_accuracy": 0.5},
            {"epoch": 2, "lr": 1e-5, "train_loss": 1.0, "val_loss": 1.5, "val_miou": 0.3, "val_pixel_accuracy": 0.6},
        ],
        evaluation=evaluation,
        model={"Parameters": "16.6 M"},
    )


def test_sections_metrics_and_curves(tmp_path):
    page = Page(render(report(segments(tmp_path, [10]))))
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    shown = page.text["dd"]
    # Both classes have 50 rows; class 0 is found completely and gets 10 rows of class 1.
    for figure in [(50 / 60 + 40 / 50) / 2, (1 + 40 / 50) / 2, 90 / 100, 50 / 100]:
        assert f"{100 * figure:.1f}%" in shown
    assert "always predicting “kind 0”" in shown
    assert "highest mean IoU 30.0%, epoch 2" in page.text["curves"]
    assert "lowest validation loss 1.5, epoch 2" in page.text["curves"]


def test_classes_without_pixels_have_dashes(tmp_path):
    text = render(report(segments(tmp_path, [10], num_classes=3)))
    rows = re.findall(r'<tr><th scope="row">(kind \d)</th>(.*?)</tr>', text, flags=re.DOTALL)
    cells = {name: re.findall(r">([^<>\s]+)<", cells) for name, cells in rows}
    dash = "\N{EN DASH}"
    assert cells == {
        "kind 0": ["83.3%", "100.0%", "83.3%", "50.00%"],
        "kind 1": ["80.0%", "80.0%", "100.0%", "50.00%"],
        "kind 2": [dash, dash, dash, "0.00%"],
    }


def test_confusion_matrix_holds_shares_of_true_classes(tmp_path):
    text = render(report(segments(tmp_path, [10])))
    cells = re.findall(r'<td class="(none|correct|wrong)"[^>]*>(?:<b>)?([\d.%]+)', text)
    assert cells == [("correct", "100.0%"), ("none", "0"), ("wrong", "20.0%"), ("correct", "80.0%")]


def test_many_classes_show_the_most_confused_pairs(tmp_path):
    text = render(report(segments(tmp_path, [10], num_classes=40)))
    section = text[text.index('<section id="confusion">') : text.index('<section id="classes">')]
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td[^>]*>([\d,]+)</td>.*?>([\d.]+%)<", section)
    assert rows == [("kind 1", "kind 0", "1,000", "20.0%")]


def test_examples_show_image_truth_and_prediction(tmp_path):
    wrong = [2 * i for i in range(15)]
    text = render(report(segments(tmp_path, wrong)))
    images = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)" alt="([^"]*)">', text)
    order = [*range(6), *range(14, 8, -1)]
    sides = ("image", "ground truth", "prediction")
    assert [alt for _, alt in images] == [f"image {i}: {side}" for i in order for side in sides]
    last = {
        alt.split(": ")[1]: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        for data, alt in images
        if alt.startswith("image 14: ")
    }
    assert {side: pixels.shape for side, pixels in last.items()} == dict.fromkeys(sides, (512, 465, 3))
    luma = 0.299 * 200 + 0.587 * 40 + 0.114 * 40
    tinted = 0.55 * luma + 0.45 * np.array(palette(2)[1])
    row = round(512 * (60 + 14) / 110)  # a row of class 1 predicted as class 0
    assert np.abs(last["image"][row, 200] - [200, 40, 40]).max() < 10
    assert np.abs(last["ground truth"][row, 200] - tinted).max() < 10
    assert np.abs(last["prediction"][row, 200] - [200, 40, 40]).max() < 10  # the most frequent true class
    assert np.abs(last["ground truth"][20, 200] - [200, 40, 40]).max() < 10  # ignored
    assert f"mean IoU {100 * (50 / 78 + 22 / 50) / 2:.1f}%" in text


def test_images_of_one_class_are_not_among_the_best(tmp_path):
    evaluation = segments(tmp_path, [0, 0, 5])
    evaluation = replace(evaluation, maps=[_plain(), *evaluation.maps[1:]])
    best = Page(render(report(evaluation))).text["examples"].split("Worst")[0]
    assert "image 1" in best and "image 2" in best and "image 0" not in best


def _plain() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (100, 110)).save(buffer, "PNG")
    return buffer.getvalue()


def test_legend_has_the_colors_of_occurring_classes(tmp_path):
    text = render(report(segments(tmp_path, [10], num_classes=5)))
    shown = re.findall(r'<i style="background: (\S+)"></i>(.*?)</span>', text)
    assert shown == [("transparent", "kind 0 (not tinted)"), ("#{:02x}{:02x}{:02x}".format(*palette(2)[1]), "kind 1")]


def test_missing_images_and_images_without_labels(tmp_path):
    evaluation = segments(tmp_path, [0, 10])
    counts = evaluation.image_counts.copy()
    counts[0] = 0
    evaluation = replace(evaluation, image_counts=counts)
    (tmp_path / "1-labels.png").unlink()
    text = render(report(evaluation))
    assert text.count(">unreadable image<") == 3
    assert "<img" not in text and "image 0" not in text


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><b onclick="x">', "$x^2$"])
def test_names_are_escaped(tmp_path, name):
    evaluation = segments(tmp_path, [10])
    evaluation = replace(evaluation, images=replace(evaluation.images, class_names=[name, "b"], names=[name]))
    page = Page(render(report(evaluation)))
    assert page.tags.count("script") == 1 and "alert" not in page.text["script"]
    assert not [attribute for attribute, _ in page.attributes if attribute.startswith("on")]
    for section in ("confusion", "classes", "examples"):
        assert name in page.text[section]
