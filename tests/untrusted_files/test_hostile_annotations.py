"""Hostile annotation files: errors or named, skipped entries, in bounded memory."""

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.limited_process import outcome_table, run_limited
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.formats.class_names import read_class_names
from transxnet.data.formats.coco import read_coco
from transxnet.data.formats.coco_folders import find_coco
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.voc import find_voc, read_voc
from transxnet.data.formats.yolo import read_yolo
from transxnet.data.formats.yolo_folders import find_yolo
from transxnet.data.open_data import open_data
from transxnet.data.reading.image_decoding import UnreadableImage
from transxnet.data.reading.masks import BadMask, check_mask, decode_mask
from transxnet.data.split import read_split
from transxnet.utils.errors import UserError

SIZE = (30, 40)  # height, width


COMPRESSED = "T3X1TQ1"
"""The run lengths 100, 40 and 1060 as pycocotools encodes them: five bits per character from 48, lowest first."""


def whole() -> dict[str, Any]:
    """A valid annotation file."""
    polygon = [1, 1, 20, 1, 20, 20, 1, 20]
    runs = {"size": [*SIZE], "counts": [100, 200, 900]}
    return {
        "images": [dict(id=i, file_name=f"{i}.png", width=40, height=30) for i in (1, 2)],
        "categories": [dict(id=1, name="ant"), dict(id=7, name="bee")],
        "annotations": [
            dict(id=1, image_id=1, category_id=7, bbox=[1, 1, 19, 19], area=361, iscrowd=0, segmentation=[polygon]),
            dict(id=2, image_id=2, category_id=1, bbox=[3, 10, 7, 20], area=200, iscrowd=1, segmentation=runs),
            dict(id=3, image_id=2, category_id=1, bbox=[0, 0, 9, 9], segmentation={**runs, "counts": COMPRESSED}),
        ],
    }


ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3.5, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 2**31, 2**53, 2**63,
    -(2**63) - 1, 10**30, -(10**30), 10**400, "", "1", "NaN", "x" * 5000, "\ud800", "a\nb", "\0", "../../../etc/passwd",
    "/dev/zero", "1.png", "<script>", [], [[]], [[1, 2]], [1, 2, 3, 4], [0] * 6, [[0] * 7], [[1e9] * 8],
    [[float("nan")] * 6], [["a"] * 6], [[None] * 6], [[-(10**400)] * 6], [-1, -1, -1, -1], [1, 1, 0, 0], [1, 1, -5, 5],
    {}, {"size": [30, 40]}, {"size": "30", "counts": 1}, {"size": [10**9, 10**9], "counts": [10**18]},
    *(
        {"size": [30, 40], "counts": counts}
        for counts in (
            [], [1200], [-5, 1205], [10**30], [0.5, 1199.5], "\ud800", "oooooooooooo", "", "PPYo1", None, {},
        )
    ),
]  # fmt: skip
"""Replacement values."""


def mutated(seed: int) -> tuple[str, str]:
    """The kind of mutation, and the text of the mutated annotation file."""
    chance, content = random.Random(seed), whole()
    kind = chance.choice(
        ("value", "value", "value", "value", "entry", "missing", "twice", "image size", "text", "nested")
    )
    for _ in range(chance.choice((1, 1, 2, 5))):
        part = chance.choice(list(content))
        if not content[part]:
            continue
        entry = chance.choice(content[part])
        if not isinstance(entry, dict) or not entry:
            continue
        key = chance.choice(list(entry))
        if kind == "value":
            place, name = entry, key
            if isinstance(entry[key], (list, dict)) and entry[key] and chance.random() < 0.5:  # inside boxes and masks
                place = entry[key]
                name = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            place[name] = deepcopy(chance.choice(ODD))
        elif kind == "entry":
            content[part][chance.randrange(len(content[part]))] = deepcopy(chance.choice(ODD))
        elif kind == "missing":
            del entry[key]
        elif kind == "twice":
            content[part].append(json.loads(json.dumps(entry)))
        elif kind == "image size":
            side = chance.choice((0, 1, 2, 31, 10**5, 2**31, 10**18))
            content["images"][0] |= {chance.choice(("width", "height")): side, "width": side}
        elif kind == "nested":
            entry[key] = json.loads("[" * 300 + "]" * 300)
    if chance.random() < 0.05:
        content[chance.choice(list(content))] = deepcopy(chance.choice(ODD))
    text = json.dumps(content)
    if kind == "text":
        start = chance.randrange(len(text))
        text = text[:start] + chance.choice(("", "{", "]", '"', "\0", "1e", "NaN", "[" * 50_000)) + text[start + 1 :]
    return kind, text


def use_coco(folder: Path, text: str) -> str:
    """Read the file as training does, with and without masks, and create all targets."""
    file = folder / "instances.json"
    file.write_text(text, encoding="utf-8")
    outcomes = []
    for masks in (False, True):
        findings = Findings()
        part = find_coco(file).train
        assert part is not None
        try:
            images = read_coco(part, findings, masks=masks)
            findings.refuse()
        except UserError:
            outcomes.append("refused")
            continue
        assert images is not None and (images.objects.areas > 0).all() and np.isfinite(images.objects.areas).all()
        for index in range(len(images)):
            target = images.target(index, masks=masks)
            height, width = images.sizes[images.indices[index]]
            boxes = target["boxes"].numpy()
            assert np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
            assert (boxes[:, [0, 2]] <= width).all() and (boxes[:, [1, 3]] <= height).all()
            assert set(target["labels"].tolist()) <= set(range(1, len(images.class_names) + 1))
        outcomes.append("used" if not findings.places else "used in part")
    return " and ".join(dict.fromkeys(outcomes))


@pytest.fixture
def image_folder(tmp_path) -> Path:
    for number in (1, 2):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"{number}.png")
    return tmp_path


def check(kinds: list[str], outcomes: list[str]) -> None:
    print(f"\n{outcome_table(kinds, outcomes)}")
    accepted = {"used", "used in part", "refused"}
    assert not [outcome for outcome in outcomes if not set(outcome.split(" and ")) <= accepted]


@pytest.mark.parametrize("count", [200, pytest.param(6000, marks=pytest.mark.long)])
def test_any_coco_file_is_used_or_refused(count, image_folder):
    pytest.importorskip("pycocotools")
    assert use_coco(image_folder, json.dumps(whole())) == "used"
    cases = [mutated(seed) for seed in range(count)]
    check(
        [kind for kind, _ in cases], run_limited([text for _, text in cases], lambda text: use_coco(image_folder, text))
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(ODD),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "image_id", "category_id", "bbox", "name", "file_name", "size", "counts", "area"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def hypothesis_test(test: Callable, count: int, *strategies: Any) -> None:
    """Run a test on a fixed number of reproducible examples."""
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
    limits = settings(max_examples=count, deadline=None, derandomize=True, database=None, suppress_health_check=checks)
    limits(given(*strategies)(test))()


@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.long)])
def test_json_of_any_structure_is_used_or_refused(count, image_folder):
    pytest.importorskip("pycocotools")
    outcomes: Counter[str] = Counter()

    def test(images: Any, annotations: Any, categories: Any) -> None:
        good = whole()
        content = {
            "images": good["images"] if images is None else images,
            "annotations": annotations,
            "categories": good["categories"] if categories is None else categories,
        }
        outcome = use_coco(image_folder, json.dumps(content))
        assert set(outcome.split(" and ")) <= {"used", "used in part", "refused"}
        outcomes[outcome] += 1

    hypothesis_test(test, count, st.none() | json_values, json_values, st.none() | json_values)
    print(f"\n{dict(outcomes)}")


@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=pytest.mark.long)])
def test_masks_of_any_structure_are_made_or_refused(count):
    pytest.importorskip("pycocotools")

    def test(segmentation: Any) -> None:
        try:
            check_mask(segmentation, *SIZE)
        except BadMask:
            return
        mask = decode_mask(segmentation, *SIZE)
        assert mask.shape == SIZE and mask.dtype == bool

    numbers = st.integers(-5, 1300) | st.floats(-500, 500) | st.sampled_from([float("nan"), 10**30, None, "1"])
    polygons = st.lists(st.lists(numbers, max_size=12), max_size=4)
    counts = st.lists(numbers, max_size=6) | st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=12)
    runs = st.fixed_dictionaries({"size": st.just([*SIZE]) | json_values, "counts": counts})
    hypothesis_test(test, count, polygons | runs | json_values)


def test_sums_of_run_lengths_that_overflow_are_refused():
    lengths = [2**60] * 15 + [2**60 + 1200]
    for counts in (lengths, [2**63 - 1, 2**63 - 1, 1202], [-(10**30), 10**30 + 1200]):
        with pytest.raises(BadMask):
            check_mask({"size": [*SIZE], "counts": counts}, *SIZE)


def test_endless_outlines_are_refused_before_drawing():
    """A megabyte of corners at opposite ends would take hours and hundreds of gigabytes."""
    zigzag = [value for number in range(100_000) for value in ((-1) ** number * 40_000, number % 5000)]
    with pytest.raises(BadMask, match="outlines"):
        check_mask([zigzag], 5000, 5000)
    circle = np.stack([np.cos(np.linspace(0, 6.28, 20_000)), np.sin(np.linspace(0, 6.28, 20_000))], 1) * 2000 + 2500
    check_mask([circle.ravel().tolist()], 5000, 5000)  # finer than hand-drawn outlines


@pytest.mark.parametrize("side", [10**5, 2**31, 10**30])
def test_claimed_sizes_take_no_memory(side, image_folder):
    content = whole()
    content["images"][0] |= dict(width=side, height=side)
    content["annotations"] = [
        dict(id=1, image_id=1, category_id=1, segmentation=[[0, 0, 50, 0, 50, 50]]),
        dict(id=2, image_id=1, category_id=1, segmentation={"size": [side, side], "counts": [side * side]}),
    ]
    (outcome,) = run_limited([json.dumps(content)], lambda text: use_coco(image_folder, text), memory=200 << 20)
    assert set(outcome.split(" and ")) <= {"used in part", "refused"}


def test_many_categories_are_checked_in_linear_time(image_folder):
    content = whole() | {"categories": [dict(id=i, name=f"kind {i}") for i in range(100_000)]}
    findings = Findings()
    (image_folder / "instances.json").write_text(json.dumps(content))
    part = find_coco(image_folder / "instances.json").train
    images = read_coco(part, findings, masks=False)
    assert images is not None and len(images.class_names) == 100_000


@pytest.mark.parametrize("name", ["a\nb", "\ud800", "a\x1b[31m", "\u2028"])
def test_class_names_with_line_breaks_are_refused(name, image_folder):
    content = whole()
    content["categories"][0]["name"] = name
    findings = Findings()
    (image_folder / "instances.json").write_text(json.dumps(content))
    part = find_coco(image_folder / "instances.json").train
    read_coco(part, findings, masks=False)
    assert findings.count(Problem.ENTRY_BROKEN) == 1
    (image_folder / "classes.json").write_text(json.dumps(["a", name]))
    with pytest.raises(UserError, match="contains control characters"):
        read_class_names(image_folder)


# Pascal VOC


GOOD_XML = (
    "<annotation><size><width>40</width><height>30</height></size><object><name>ant</name><difficult>0</difficult>"
    "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>12</xmax><ymax>20</ymax></bndbox></object></annotation>"
)
ENTITIES = "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
BAD_XML = {
    "entities without end": f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{ENTITIES}]>' + GOOD_XML.replace("ant", "&i;"),
    "an entity": '<!DOCTYPE x [<!ENTITY a "ant">]>' + GOOD_XML.replace("ant", "&a;"),
    "another file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + GOOD_XML.replace("ant", "&a;"),
    "a parameter": '<!DOCTYPE x [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>' + GOOD_XML,
    "a type elsewhere": '<!DOCTYPE x SYSTEM "http://localhost/x.dtd">' + GOOD_XML,
    "an entity that is not declared": GOOD_XML.replace("ant", "&nbsp;"),
    "levels without end": "<a>" * 100_000 + "</a>" * 100_000,
    "an unknown encoding": '<?xml version="1.0" encoding="evil"?>' + GOOD_XML,
    "another encoding": '<?xml version="1.0" encoding="utf-16"?>' + GOOD_XML,
    "no end": GOOD_XML[:-5],
    "nothing": "",
    "two roots": GOOD_XML * 2,
    "null": GOOD_XML.replace("ant", "\0"),
}


@pytest.fixture
def voc(tmp_path) -> Path:
    for folder in ("Annotations", "JPEGImages"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "JPEGImages" / "a.jpg")
    return tmp_path


def use_voc(root: Path, text: str) -> str:
    (root / "Annotations" / "a.xml").write_text(text, encoding="utf-8")
    findings = Findings()
    images, _ = read_voc(find_voc(root)[:2], findings)
    try:
        findings.refuse()
    except UserError:
        return "refused"
    assert images is not None and np.isfinite(images.objects.boxes).all()
    assert all(images.own_sizes[0] == SIZE) or "<size" in text
    return "used in part" if findings.places else "used"


@pytest.mark.parametrize("kind", BAD_XML)
def test_xml_with_entities_or_other_files_is_refused(kind, voc):
    (outcome,) = run_limited([BAD_XML[kind]], lambda text: use_voc(voc, text), memory=200 << 20)
    assert outcome == "refused"


@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=pytest.mark.long)])
def test_any_voc_file_is_used_or_refused(count, voc):
    assert use_voc(voc, GOOD_XML) == "used"
    words = [
        "",
        "0",
        "-1",
        "²",
        "٣",
        "1e308",
        "nan",
        "inf",
        "-inf",
        "9" * 5000,
        "9" * 30,
        "2147483648",
        "1_0",
        " 5 ",
        "x",
    ]
    words += ["ant", "a &lt;b&gt;", "<x/>", "&#10;", "]]&gt;", "40", "30", "1.5"]

    def one(seed: int) -> str:
        chance, text = random.Random(seed), GOOD_XML
        for _ in range(chance.choice((1, 1, 2, 4))):
            old = chance.choice([">40<", ">30<", ">ant<", ">0<", ">2<", ">3<", ">12<", ">20<"])
            text = text.replace(old, f">{chance.choice(words)}<", 1)
        if chance.random() < 0.2:
            start = chance.randrange(len(text))
            text = text[:start] + chance.choice(("", "<", "&", ">", '"')) + text[start + chance.choice((0, 1, 20)) :]
        return text

    cases = [one(seed) for seed in range(count)]
    check(["xml"] * count, run_limited(cases, lambda text: use_voc(voc, text)))


# YOLO


GOOD_ROWS = "0 0.5 0.5 0.5 0.5\n1 0.1 0.1 0.5 0.1 0.5 0.5\n"
GOOD_CONFIG = "train: images\nnames: {0: ant, 1: bee}\nnc: 2\n"


@pytest.fixture
def yolo(tmp_path) -> Path:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for stem in ("a", "b"):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "images" / f"{stem}.png")
        (tmp_path / "labels" / f"{stem}.txt").write_text(GOOD_ROWS)
    return tmp_path


def use_yolo(root: Path, texts: tuple[str, str]) -> str:
    (root / "labels" / "a.txt").write_bytes(texts[0].encode("utf-8", "surrogateescape"))
    (root / "data.yaml").write_bytes(texts[1].encode("utf-8", "surrogateescape"))
    outcomes = []
    for masks in (False, True):
        findings = Findings()
        try:
            (images,) = read_yolo([find_yolo(root).train], findings, masks=masks)
            findings.refuse()
        except UserError:
            outcomes.append("refused")
            continue
        assert images is not None and len(images) == 2
        for index in range(len(images)):
            target = images.target(index, masks=masks)
            boxes = target["boxes"].numpy()
            assert np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
            assert (boxes <= [40, 30, 40, 30]).all()
            assert set(target["labels"].tolist()) <= set(range(1, len(images.class_names) + 1))
        outcomes.append("used" if not findings.places else "used in part")
    return " and ".join(dict.fromkeys(outcomes))


@pytest.mark.parametrize("count", [150, pytest.param(3000, marks=pytest.mark.long)])
def test_any_yolo_file_is_used_or_refused(count, yolo):
    pytest.importorskip("pycocotools")
    assert use_yolo(yolo, (GOOD_ROWS, GOOD_CONFIG)) == "used and refused"  # the boxes have no masks
    values = [
        "",
        "0",
        "-1",
        "²",
        "1e308",
        "nan",
        "inf",
        "9" * 5000,
        "1_0",
        "0,5",
        "x",
        "0.5 0.5",
        "\0",
        "\udcff",
        "[" * 99,
    ]
    values += [
        "{a: b}",
        "!!python/name:os.system",
        "&a [*a]",
        "../../..",
        "/etc",
        "images",
        "[]",
        "null",
        "yes",
        "a\nb: c",
    ]

    def one(seed: int) -> tuple[str, str]:
        chance, texts = random.Random(seed), [GOOD_ROWS, GOOD_CONFIG]
        for _ in range(chance.choice((1, 1, 2, 4))):
            which = chance.randrange(2)
            words = re.split(r"(\s+|[:,{}])", texts[which])
            words[chance.randrange(len(words))] = chance.choice(values)
            texts[which] = "".join(words)
        return texts[0], texts[1]

    cases = [one(seed) for seed in range(count)]
    check(["yolo"] * count, run_limited(cases, lambda texts: use_yolo(yolo, texts)))


def test_pipes_instead_of_annotations_do_not_hang(voc):
    os.mkfifo(voc / "Annotations" / "a.xml")
    findings = Findings()
    read_voc(find_voc(voc)[:2], findings)
    assert findings.count(Problem.FILE_BROKEN) == 1
    os.mkfifo(voc / "classes.txt")  # not a regular file, so it is ignored
    assert read_class_names(voc) is None
    os.mkfifo(voc / "instances.json")
    assert not any(find_coco(voc))
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    os.mkfifo(voc / "ImageSets" / "Main" / "train.txt")
    with pytest.raises(UserError, match="cannot read"):
        find_voc(voc)


@pytest.mark.parametrize("name", ["../1.png", "..\\1.png", "a/../../1.png", "/home/somebody/1.png"])
def test_paths_in_file_names_lead_to_the_image_in_the_folder(name, image_folder):
    """Annotation files may contain image paths of another machine."""
    assert read_renamed(image_folder, name).storage.paths[0] == str(image_folder / "1.png")


def test_file_at_an_absolute_path_is_opened_as_an_image_only(image_folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret"
    elsewhere.write_text("a password")
    images = read_renamed(image_folder, str(elsewhere))
    assert images.storage.paths[0] == str(elsewhere)
    with pytest.raises(UnreadableImage, match="not an image"):
        images.image(0)


def read_renamed(image_folder: Path, name: str) -> DetectionSet:
    """Read the images after giving the first one this name in the annotations."""
    content = whole()
    content["images"][0]["file_name"] = name
    (image_folder / "instances.json").write_text(json.dumps(content))
    part = find_coco(image_folder / "instances.json").train
    return read_coco(part, Findings(), masks=False)


def test_damaged_split_file_is_refused(tmp_path):
    path = tmp_path / "split.csv"
    for text in (
        "",
        "x",
        "name,part\na,evil\n",
        "name,part\n" + "x" * 200_000 + ",train\n",
        "name\na\n",
        "a,b\n1,2,3\n",
    ):
        path.write_text(text)
        if text in ("", "x"):
            assert all(not len(part) for part in read_split(path, ["a"]).values())
            continue
        with pytest.raises(UserError, match="cannot read the split"):
            read_split(path, ["a"])


def test_infinite_boxes_are_refused_by_open_dense_source(image_folder):
    """The same through the public entry point."""
    (image_folder / "instances.json").write_text(json.dumps(whole()).replace('"bbox": [', '"bbox": [1e999, '))
    with pytest.raises(UserError, match=r"3 of 3 objects cannot be used(.|\n)*3 boxes are not four finite numbers"):
        open_data(str(image_folder))
