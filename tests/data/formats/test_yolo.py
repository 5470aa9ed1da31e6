import pytest

from tests.helpers.annotated import write_image
from transxnet.data.formats.findings import Findings, Problem
from transxnet.data.formats.yolo import read_yolo
from transxnet.data.formats.yolo_folders import find_yolo
from transxnet.data.open_data import open_data
from transxnet.utils.errors import UserError


def write(root, **rows: str):
    """Write images of 40x30 pixels with these label files."""
    for name, text in rows.items():
        write_image(root / "images" / f"{name}.png")
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{name}.txt").write_text(text)
    return root


def read(root, masks: bool = False):
    findings = Findings()
    (images,) = read_yolo([find_yolo(root).train], findings, masks=masks)
    return images, findings


def test_boxes_are_relative_centers_and_sizes(tmp_path):
    images, findings = read(write(tmp_path, a="1 0.5 0.5 0.5 0.2\n0 0.25 0.5 0.5 1\n", b=""))
    assert not findings.places
    assert (images.own_names, images.class_names) == (["images/a.png", "images/b.png"], ["0", "1"])
    assert images.target(0)["boxes"].tolist() == [[10, 12, 30, 18], [0, 0, 20, 30]]
    assert images.target(0)["labels"].tolist() == [2, 1]
    assert images.category_ids == [0, 1]
    assert len(images.target(1)["boxes"]) == 0


def test_polygons_have_boxes_and_masks(tmp_path):
    images, findings = read(write(tmp_path, a="0 0.25 0.2 0.75 0.2 0.75 0.8 0.25 0.8\n"), masks=True)
    assert not findings.places
    target = images.target(0, masks=True)
    assert target["boxes"].tolist() == [[10, 6, 30, 24]]
    assert target["masks"].sum() == 20 * 18 == target["area"]
    assert target["masks"][0, 6:24, 10:30].all()


def test_masks_need_polygons(tmp_path):
    write(tmp_path, a="0 0.5 0.5 0.5 0.2\n")
    with pytest.raises(UserError, match=r"no object masks.*--head retinanet"):
        read(tmp_path, masks=True)
    write(tmp_path, b="0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    images, findings = read(tmp_path, masks=True)
    assert [len(labels) for labels in images.own_labels] == [0, 1]
    assert list(findings.places) == [Problem.MASK_BROKEN]


@pytest.mark.parametrize(
    ("row", "problem", "place"),
    [
        ("0 0.5 0.5 0.5", Problem.ENTRY_BROKEN, "4 columns; accepted: class x y width height"),
        ("0 0.5 0.5 0.5 0.2 0.9", Problem.ENTRY_BROKEN, "6 columns"),
        ("0 0.5 0.5 0.5 0.2 0.9 0.8 0.7", Problem.ENTRY_BROKEN, "8 columns"),
        ("cat 0.5 0.5 0.5 0.2", Problem.ENTRY_BROKEN, "class 'cat'; accepted: an integer"),
        ("0.5 0.5 0.5 0.5 0.2", Problem.ENTRY_BROKEN, "class '0.5'"),
        ("2 0.5 0.5 0.5 0.2", Problem.UNKNOWN_CATEGORY, "class 2; accepted: 0 to 1"),
        ("-1 0.5 0.5 0.5 0.2", Problem.UNKNOWN_CATEGORY, "class -1"),
        ("0 20 15 8 6", Problem.COORDINATES, "20"),
        ("0 0.5 0.5 0.5 -0.2", Problem.COORDINATES, "-0.2"),
        ("0 nan 0.5 0.5 0.2", Problem.COORDINATES, "nan"),
        ("0 0,5 0.5 0.5 0.2", Problem.COORDINATES, "0,5"),
        ("0 0.5 0.5 0 0.2", Problem.BOX_EMPTY, "[20.0, 12.0, 0.0, 6.0]"),
        ("0 0.9 0.5 0.5 0.2", Problem.BOX_OUTSIDE, "[26.0, 12.0, 20.0, 6.0] in 40x30"),
        ("1 0.1 0.1 0.1 0.1", Problem.DUPLICATE_OBJECT, ""),
    ],
)
def test_problems_are_reported_with_file_and_line(row, problem, place, tmp_path):
    write(tmp_path, a=f"1 0.1 0.1 0.1 0.1\n\n{row}\n")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    _, findings = read(tmp_path)
    assert list(findings.places) == [problem]
    assert findings.places[problem][0].startswith(f"labels/a.txt: line 3{': ' if place else ''}{place}")


def test_files_without_a_counterpart_are_reported(tmp_path):
    write(tmp_path, a="0 0.5 0.5 0.5 0.2\n", c="0 0.5 0.5 0.5 0.2\n")
    write_image(tmp_path / "images/b.png")
    (tmp_path / "images/c.png").unlink()
    images, findings = read(tmp_path)
    assert images.own_names == ["images/a.png", "images/b.png"]
    assert findings.places == {
        Problem.NO_LABEL_FILE: ["images/b.png"],
        Problem.STRAY_ANNOTATION: ["labels/c.txt: its image is missing"],
    }


def test_images_with_the_same_label_file_are_refused(tmp_path):
    write(tmp_path, a="0 0.5 0.5 0.5 0.2\n")
    write_image(tmp_path / "images/a.jpg")
    _, findings = read(tmp_path)
    assert findings.places == {Problem.DUPLICATE_FILE: ["images/a.png: a.txt is also that of a.jpg"]}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "names: [cat, dog]\nnc: 2\n"),
        ("data.yaml", "names:\n  1: dog\n  0: cat\n"),
        ("data.yaml", "names: {'0': cat, '1': dog}\n"),
        ("my.yml", "names: [cat, dog]\n"),
        ("classes.txt", "cat\r\ndog\r\n"),
        ("labels/classes.txt", "cat\ndog"),
        ("obj.names", "cat\ndog\n"),
    ],
)
def test_class_names(file, text, tmp_path):
    write(tmp_path, a="1 0.5 0.5 0.5 0.2\n")
    (tmp_path / file).write_text(text)
    images, findings = read(tmp_path)
    assert (images.class_names, findings.places) == (["cat", "dog"], {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: [cat, cat]", "'cat' twice"),
        ("names: [cat]\nnc: 2", "1 names, but nc is 2"),
        ("names: {1: cat}", r"keys \[1\]\. Accepted: 0 to 0"),
        ("names: {a: cat}", "keys"),
        ("names: cat", "'cat'. Accepted: a list"),
        ("names: []", "Accepted: a list"),
        ('names: ["a\\nb"]', "control characters"),
    ],
)
def test_unusable_class_names_are_an_error(text, message, tmp_path):
    write(tmp_path, a="0 0.5 0.5 0.5 0.2\n")
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_classes_without_names_are_limited(tmp_path):
    with pytest.raises(UserError, match=r"class 99999999 .* too large"):
        read(write(tmp_path, a="99999999 0.5 0.5 0.5 0.2\n"))


def test_keypoints_are_ignored(tmp_path):
    write(tmp_path, a="0 0.5 0.5 0.5 0.2 0.1 0.1 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("names: [a]\nkpt_shape: [2, 2]\n")
    images, findings = read(tmp_path)
    assert images.target(0)["boxes"].tolist() == [[10, 12, 30, 18]]
    assert not findings.places


def test_both_sets_have_the_names_of_the_file(tmp_path):
    for part, row in (("train", "1"), ("valid", "0")):
        write_image(tmp_path / part / "images/1.png")
        (tmp_path / part / "labels").mkdir()
        (tmp_path / part / "labels/1.txt").write_text(f"{row} 0.5 0.5 0.5 0.2\n")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [a, b]\n")
    source = open_data(str(tmp_path / "data.yaml"))
    assert (len(source.train), len(source.val), source.class_names) == (1, 1, ["a", "b"])
    assert source.recognition.format == "yolo"
    assert source.val.own_labels[0].tolist() == [1]
