"""The report of a detector: its metrics, curves and images, with user-supplied names kept as they are."""

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.html_page import Page
from transxnet.data.datasets.detection_dataset import DetectionSet, Objects, Segmentations
from transxnet.data.datasets.image_collection import FileImages
from transxnet.metrics.detection import DetectionEvaluation, Detections
from transxnet.reports import Report, render
from transxnet.reports.colors import palette

SECTIONS = ["model", "curves", "precision", "classes", "examples", "notes", "configuration", "environment", "command"]
SIZE = (120, 160)  # height, width
HISTORY = [
    {"epoch": 1, "lr": 1e-4, "train_loss": 2.0, "val_ap": 0.1, "val_ap50": 0.3, "seconds": 30.0},
    {
        "epoch": 2,
        "lr": 1e-4,
        "train_loss": 1.0,
        "val_ap": 0.4,
        "val_ap50": 0.6,
        "val_mask_ap": math.nan,
        "seconds": 30.0,
    },
    {"epoch": 3, "lr": 1e-5, "train_loss": 0.5, "val_ap": 0.3, "val_ap50": 0.7, "val_mask_ap": 0.25, "seconds": 30.0},
]


def box_mask(box: Sequence[float]) -> dict:
    """Uncompressed COCO run lengths of the pixels in a box."""
    mask = np.zeros(SIZE, np.uint8)
    mask[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 1
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    return {"size": list(SIZE), "counts": np.diff([0, *changes, flat.size]).tolist()}


def detections(
    folder: Path, num_images: int = 20, num_classes: int = 4, masks: bool = False, names: Sequence[str] | None = None
) -> DetectionEvaluation:
    """One object per image, cycling through all classes but the last; one detection at 90% and one at 10%."""
    for i in range(num_images):
        Image.new("RGB", SIZE[::-1], (5 * i, 90, 120)).save(folder / f"{i}.png")
    boxes = np.tile(np.array([[40, 30, 100, 90]], np.float32), (num_images, 1))
    labels = np.arange(num_images) % (num_classes - 1) + 1
    images = DetectionSet(
        storage=FileImages([str(folder / f"{i}.png") for i in range(num_images)]),
        names=[f"image {i:02d}" for i in range(num_images)],
        sizes=np.tile(SIZE, (num_images, 1)),
        image_ids=np.arange(num_images),
        objects=Objects(
            boxes=boxes,
            labels=labels,
            areas=np.full(num_images, 3600, np.float32),
            crowd=np.zeros(num_images, bool),
            ids=np.arange(num_images),
            segmentations=Segmentations([box_mask(box) for box in boxes]) if masks else None,
        ),
        first=np.arange(num_images + 1),
        class_names=[f"kind {i}" for i in range(num_classes)] if names is None else list(names),
        category_ids=list(range(num_classes)),
    )
    uncertain = np.array([[0, 0, 20, 20]], np.float32)
    found = [
        Detections(
            np.concatenate([boxes[i : i + 1], uncertain]),
            np.array([labels[i], labels[i]]),
            np.array([0.9, 0.1], np.float32),
            [box_mask(boxes[i]), box_mask(uncertain[0])] if masks else None,
        )
        for i in range(num_images)
    ]
    ap = np.array([*np.linspace(0.2, 0.8, num_classes - 1), np.nan])
    precision = np.clip(ap[:, None] * 2 - np.linspace(0, 1, 101), 0, 1)
    metrics = dict(ap=0.512, ap50=0.723, ap75=0.434, ap_small=math.nan, ap_medium=0.312, ap_large=0.645)
    kinds = ["box", "mask"] if masks else ["box"]
    return DetectionEvaluation(
        images=images,
        detections=found,
        all_metrics=metrics | ({f"mask_{name}": value - 0.01 for name, value in metrics.items()} if masks else {}),
        class_ap={kind: ap - 0.01 * n for n, kind in enumerate(kinds)},
        precision=dict.fromkeys(kinds, precision),
        image_f1=np.linspace(0, 1, num_images),
    )


def report(evaluation: DetectionEvaluation) -> Report:
    return Report(
        title="retinanet on kinds",
        command="transxnet train --data kinds",
        config={"epochs": 3},
        environment={"date": "2026-01-02"},
        notes=["Longer sides are at most 533 pixels."],
        history=HISTORY,
        evaluation=evaluation,
        model={"Parameters": "22.4 M"},
    )


@pytest.mark.parametrize("masks", [False, True])
def test_sections_metrics_and_curves(tmp_path, masks):
    text = render(report(detections(tmp_path, masks=masks)))
    page = Page(text)
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    assert len(page.ids) == len(set(page.ids))
    assert "20 objects of 4 classes in 20 validation images" in page.text["p"]
    shown = page.text["dd"].replace("\N{NO-BREAK SPACE}", " ")
    assert all(figure in shown for figure in ("51.2%", "72.3%", "43.4%", "up to 96² 31.2%", "over 96² 64.5%"))
    assert "32²" not in shown  # there is no small object
    assert "1 min 30 s" in shown
    assert ("50.2%" in shown) == ("Mask AP" in page.text["classes"]) == masks
    assert "highest AP 40.0%, epoch 2" in page.text["curves"]
    assert "lowest training loss 0.5, epoch 3" in page.text["curves"]
    assert "mask AP" in page.text["curves"]
    assert ("Masks" in page.text["precision"]) == masks
    loads = [value for name, value in page.attributes if name in {"src", "href", "xlink:href"}]
    assert loads and all(value.startswith(("data:image/jpeg;base64,", "#")) for value in loads)
    assert not re.findall(r"(?:stroke|fill): #", text)


def test_classes_are_sorted_by_number_of_objects(tmp_path):
    text = render(report(detections(tmp_path, num_images=20)))
    rows = re.findall(r'<tr><th scope="row">(kind \d)</th>(.*?)</tr>', text, flags=re.DOTALL)
    cells = [(name, *re.findall(r">([\d.%–]+)<", cells)) for name, cells in rows]  # noqa: RUF001
    dash = "\N{EN DASH}"
    assert cells == [
        ("kind 0", "20.0%", "7"),
        ("kind 1", "50.0%", "7"),
        ("kind 2", "80.0%", "6"),
        ("kind 3", dash, "0"),
    ]


@pytest.mark.parametrize(
    ("num_classes", "best", "worst"), [(4, "kind 2", "kind 0"), (31, "kind 29, kind 28", "kind 0, kind 1, kind 2")]
)
def test_best_and_worst_classes_are_named(tmp_path, num_classes, best, worst):
    section = Page(render(report(detections(tmp_path, 60, num_classes)))).text["precision"]
    assert f"best: {best}" in section and f"worst: {worst}" in section
    assert ("other classes" in section) == (num_classes <= 12)


def test_examples_show_annotations_and_detections(tmp_path):
    text = render(report(detections(tmp_path, num_images=20)))
    images = re.findall(r'<img src="data:image/jpeg;base64,([^"]*)" alt="([^"]*)">', text)
    order = [*range(19, 13, -1), *range(6)]
    sides = ("ground truth", "detections")
    assert [alt for _, alt in images] == [f"image {i:02d}: {side}" for i in order for side in sides]
    assert "F1 100.0%: 1 object, 1 detection" in text and "F1 5.3%: 1 object, 1 detection" in text
    scale = 512 / 160
    for data, alt in images:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        assert pixels.shape == (384, 512, 3)
        label = int(alt[6:8]) % 3
        edge = pixels[round(60 * scale), round(40 * scale) + 1]
        assert np.abs(edge - palette(4)[label]).max() < 40  # JPEG changes colors a little
        assert np.abs(pixels[30, 60] - pixels[30, 120]).max() < 20  # low scores are not drawn


def test_masks_are_tinted(tmp_path):
    text = render(report(detections(tmp_path, num_images=1, masks=True)))
    images = re.findall(r"data:image/jpeg;base64,([^\"]*)", text)
    assert len(images) == 2
    for data in images:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        expected = 0.6 * np.array([0, 90, 120]) + 0.4 * np.array(palette(1)[0])
        assert np.abs(pixels[200, 220] - expected).max() < 12


def test_crowds_are_not_drawn(tmp_path):
    evaluation = detections(tmp_path, num_images=1, masks=True)
    objects = replace(
        evaluation.images.objects, crowd=np.ones(1, bool), segmentations=None
    )  # although the detection has a mask
    text = render(report(replace(evaluation, images=replace(evaluation.images, objects=objects))))
    truth = re.findall(r'base64,([^"]*)" alt="image 00: ground truth"', text)[0]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(truth)))).astype(int)
    assert np.abs(pixels - [0, 90, 120]).max() < 10
    assert "F1 0.0%: 0 objects, 1 detection" in text


def test_few_images_are_shown_once(tmp_path):
    text = render(report(detections(tmp_path, num_images=4)))
    assert len(re.findall("<img", text)) == 2 * 4
    assert "Worst" not in Page(text).text["examples"]


def test_missing_images_become_placeholders(tmp_path):
    evaluation = detections(tmp_path, num_images=2)
    (tmp_path / "0.png").unlink()
    text = render(report(evaluation))
    assert text.count(">unreadable image<") == 2
    assert len(re.findall("<img", text)) == 2


def test_page_without_objects(tmp_path):
    evaluation = detections(tmp_path, num_images=2)
    empty = Objects(np.zeros((0, 4), np.float32), *(np.zeros(0, kind) for kind in (int, float, bool, int)))
    evaluation = replace(
        evaluation,
        images=replace(evaluation.images, objects=empty, first=np.zeros(3, int)),
        all_metrics=dict.fromkeys(evaluation.all_metrics, math.nan),
        class_ap={"box": np.full(4, np.nan)},
        precision={"box": np.full((4, 101), np.nan)},
    )
    page = Page(render(report(evaluation)))
    assert "The validation images contain no objects." in page.text["precision"]
    assert "Best" not in page.text["examples"] and "Worst" in page.text["examples"]


def test_names_are_escaped_and_not_read_as_formulas(tmp_path):
    attack = "<script>alert(1)</script>"
    names = ["$x^2$ & $\\frac{", attack, '"><b onclick="x">', "\udcff"]
    evaluation = detections(tmp_path, names=names, masks=True)
    evaluation = replace(evaluation, images=replace(evaluation.images, names=[f"{attack} {i}" for i in range(20)]))
    page = Page(render(report(evaluation)))
    assert page.tags.count("script") == 1 and "alert" not in page.text["script"]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "worst: $x^2$ & $\\frac{" in page.text["precision"]
    assert attack in page.text["examples"]
