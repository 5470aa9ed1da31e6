import numpy as np
import pytest

from tests.helpers.annotated import box, image, voc_object, write_coco, write_image, write_map, write_voc
from transxnet.data.recognize import recognize
from transxnet.utils.errors import UserError

MAP = np.array([[0, 1]], np.uint8)


def coco(root):
    write_coco(root / "annotations/instances_train.json", [image(1)], [box(1, 1)], image_folder=root / "train")


def voc(root):
    write_voc(root, "a", voc_object("cat", (1, 1, 3, 3)))


def yolo(root):
    write_image(root / "images/train/a.png")
    (root / "labels/train").mkdir(parents=True)
    (root / "labels/train/a.txt").write_text("0 0.5 0.5 0.5 0.5")


def maps(root):
    write_map(root / "masks/a.png", MAP, image_path=root / "images/a.jpg")


def table(root):
    write_image(root / "images/1.png")
    (root / "labels.csv").write_text("path,label\n1.png,cat\n")


def classes(root):
    write_image(root / "cat/1.png")
    write_image(root / "dog/1.png")


@pytest.mark.parametrize(
    ("write", "format", "task", "why"),
    [
        (coco, "coco", "detect", "instances_train.json is a COCO annotation file"),
        (voc, "voc", "detect", "Annotations/ contains XML files of Pascal VOC"),
        (yolo, "yolo", "detect", "text files with YOLO labels"),
        (maps, "label maps", "segment", "masks contains label maps for"),
        (table, "label table", "classify", "labels.csv is a table of images and labels"),
        (classes, "class folders", "classify", "it contains folders"),
    ],
)
def test_data_is_recognized_with_the_reason(write, format, task, why, tmp_path):
    write(tmp_path)
    found = recognize(str(tmp_path))
    assert (found.format, found.task) == (format, task)
    assert why in found.why
    assert recognize(str(tmp_path), task) == found


@pytest.mark.parametrize(("name", "task"), [("elpv", "classify"), ("scenes", "detect"), ("hfds/x", "classify")])
def test_names_are_recognized_without_opening_them(name, task, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert recognize(name).task == task
    assert not (tmp_path / "cache").exists()


def test_one_folder_may_serve_several_tasks(tmp_path):
    coco(tmp_path)
    maps(tmp_path)
    assert recognize(str(tmp_path)).task == "detect"
    assert recognize(str(tmp_path), "detect").format == "coco"
    assert recognize(str(tmp_path), "segment").format == "label maps"
    assert recognize("scenes", "segment").format == "label maps"


def test_an_annotation_file_is_recognized(tmp_path):
    coco(tmp_path)
    assert recognize(str(tmp_path / "annotations/instances_train.json")).format == "coco"
    with pytest.raises(
        UserError, match=r"1\.png is a file, but neither a COCO annotation file, nor YOLO's data.yaml, nor a table"
    ):
        recognize(str(tmp_path / "train/1.png"))


def test_table_is_recognized_as_a_file(tmp_path):
    table(tmp_path)
    found = recognize(str(tmp_path / "labels.csv"))
    assert (found.format, found.parts) == ("label table", recognize(str(tmp_path)).parts)
    with pytest.raises(UserError, match="is data for task 'classify', got task 'detect'"):
        recognize(str(tmp_path / "labels.csv"), "detect")


def test_data_for_another_task_is_an_error(tmp_path):
    maps(tmp_path)
    with pytest.raises(
        UserError,
        match=r"is data for task 'segment', got task 'detect': .*masks.* transxnet layouts",
    ):
        recognize(str(tmp_path), "detect")
    with pytest.raises(UserError, match="task must be 'detect' or 'segment' or 'classify', got 'count'"):
        recognize(str(tmp_path), "count")


@pytest.mark.parametrize(("name", "meant"), [("scene", "scenes"), ("elvp", "elpv"), ("", None)])
def test_unknown_data_error_suggests_the_nearest(name, meant, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"'{name}' is neither an existing folder nor a sample") as raised:
        recognize(name)
    assert meant is None or f"Did you mean {meant!r}" in str(raised.value)


def test_a_folder_wins_over_a_sample_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    classes(tmp_path / "scenes")
    assert recognize("scenes").task == "classify"
