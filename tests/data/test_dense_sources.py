from contextlib import contextmanager

import numpy as np
import pytest

from tests.helpers.annotated import box, image, voc_object, write_coco, write_map, write_picture, write_voc
from transxnet.data.dense_sources import open_dense_evaluation, open_dense_source
from transxnet.data.detection_set import DetectionSet
from transxnet.data.findings import Problem
from transxnet.data.segmentation_set import SegmentationSet
from transxnet.data.split import write_split
from transxnet.utils.errors import UserError

CATS = [dict(id=5, name="cat"), dict(id=9, name="dog")]
SWAPPED = [dict(id=1, name="dog"), dict(id=2, name="cat")]


@pytest.fixture
def coco(tmp_path):
    """Make train/ and val/ in COCO's format, with an object on each image."""

    def make(train: int = 4, val: int = 2, val_categories=SWAPPED, **change) -> str:
        for part, count, categories in (("train", train, CATS), ("val", val, val_categories)):
            if count:
                images = [image(i) for i in range(1, count + 1)]
                labels = [box(i, i, category=categories[i % 2 % len(categories)]["id"]) for i in range(1, count + 1)]
                write_coco(tmp_path / part / "annotations.json", images, labels, categories, pictures=tmp_path / part)
        return str(tmp_path)

    return make


@pytest.fixture
def maps(tmp_path):
    def make(**parts: list[list[int]]) -> str:
        for part, rows in parts.items():
            for i, values in enumerate(rows):
                where = "" if part == "whole" else part
                name = tmp_path / "masks" / where / f"{i}.png"
                write_map(name, np.array([values], np.uint8), picture=tmp_path / "images" / where / f"{i}.jpg")
        return str(tmp_path)

    return make


def test_both_parts_have_the_classes_of_the_first(coco):
    source = open_dense_source(coco())
    assert isinstance(source.train, DetectionSet)
    assert (len(source.train), len(source.val), source.split_made) == (4, 2, False)
    assert source.class_names == source.val.class_names == ["cat", "dog"]
    assert [labels.tolist() for labels in source.train.own_labels] == [[2], [1], [2], [1]]
    assert [labels.tolist() for labels in source.val.own_labels] == [[1], [2]]
    assert source.val.category_ids == [2, 1]
    assert source.recognition.task == "detect"
    assert source.notes == []
    assert (source.img_size, source.hflip) == (None, 0.5)


def test_classes_that_the_first_part_lacks_are_an_error(coco):
    with pytest.raises(UserError, match=r"'catt'.*Did you mean 'cat'"):
        open_dense_source(coco(val_categories=[dict(id=1, name="catt")]))


def test_without_a_held_out_part_a_fifth_is_held_out(coco, tmp_path):
    data = coco(train=20, val=0)
    source = open_dense_source(data, seed=3)
    assert source.split_made
    assert (len(source.train), len(source.val)) == (16, 4)
    assert sorted(label for labels in source.val.own_labels for label in labels) == [1, 1, 2, 2]
    assert open_dense_source(data, seed=3).val.own_names == source.val.own_names
    assert open_dense_source(data, seed=4).val.own_names != source.val.own_names
    write_split(tmp_path / "split.csv", {"train": source.train.own_names, "val": source.val.own_names})
    again = open_dense_source(data, seed=4, stored_split=tmp_path / "split.csv")
    assert again.val.own_names == source.val.own_names


def test_a_few_images_of_different_classes_are_split_all_the_same(coco):
    source = open_dense_source(coco(train=2, val=0))
    assert (len(source.train), len(source.val)) == (1, 1)
    with pytest.raises(UserError, match="val_fraction must lie between 0 and 1, got 1"):
        open_dense_source(coco(), val_fraction=1)


def test_one_image_can_not_be_split(coco):
    with pytest.raises(UserError, match="there is 1 image, so none can be held out"):
        open_dense_source(coco(train=1, val=0))


def test_a_held_out_part_alone_is_for_evaluation(coco):
    data = coco(train=0)
    with pytest.raises(UserError, match="a part to evaluate on and none to train on"):
        open_dense_source(data)
    images, notes = open_dense_evaluation(data, ["dog", "cat", "fox"])
    assert [labels.tolist() for labels in images.own_labels] == [[2], [1]]
    assert images.category_ids == [1, 2, -1]
    assert notes == []


def test_evaluation_leaves_the_part_to_train_on_alone(coco, maps, tmp_path, seen):
    data = coco()
    (tmp_path / "train/1.png").write_text("no picture")
    calls, progress = seen
    images, notes = open_dense_evaluation(data, ["cat", "dog"], progress=progress)
    assert (len(images), notes, calls) == (2, [], [2, 1, 2])
    calls.clear()
    images, _ = open_dense_evaluation(maps(train=[[0, 9]], val=[[0, 1]]), ["sky", "road"], "segment", progress=progress)
    assert (images.labels(0).tolist(), calls) == ([[0, 1]], [1, 1])


def test_no_object_at_all_is_an_error(tmp_path):
    write_coco(tmp_path / "annotations.json", [image(1)], [], CATS, pictures=tmp_path)
    with pytest.raises(UserError, match="no object to train on in 1 images"):
        open_dense_source(str(tmp_path))


def test_classes_without_an_object_are_said(coco, tmp_path):
    data = coco()
    file = tmp_path / "train/annotations.json"
    file.write_text(file.read_text().replace('"category_id": 9', '"category_id": 5'))
    assert open_dense_source(data).notes == ["no object to train on is of class 'dog'"]


@pytest.fixture
def seen():
    """A progress that remembers."""
    calls = []

    @contextmanager
    def progress(total):
        calls.append(total)
        yield calls.append

    return calls, progress


def test_photographs_are_looked_at_once(coco, tmp_path, seen):
    data = coco(train=60, val=0)
    (tmp_path / "train/3.png").write_text("no picture")
    write_picture(tmp_path / "train/5.png", 30, 40)
    calls, progress = seen
    source = open_dense_source(data, progress=progress)
    assert calls == [60, *range(1, 61)]
    assert len(source.train) + len(source.val) == 58
    assert source.findings.places == {
        Problem.IMAGE_UNREADABLE: ["3.png: not an image file, or of an unknown format"],
        Problem.IMAGE_SIZE: [
            "5.png: the file has 30x40 pixels, its annotations 40x30; "
            "are they those of the file before it is turned upright?"
        ],
    }
    assert source.notes == [
        "1 images can't be read, left out: 3.png: not an image file, or of an unknown format",
        source.notes[1],
    ]


def test_too_many_bad_photographs_are_an_error(coco, tmp_path):
    data = coco(train=20, val=0)
    for number in (3, 5):
        (tmp_path / f"train/{number}.png").write_text("no picture")
    with pytest.raises(UserError, match="2 of 20 images can't be used, more than 5%"):
        open_dense_source(data)


def test_all_that_is_refused_in_both_parts_is_told_at_once(coco, tmp_path):
    data = coco()
    for part in ("train", "val"):
        file = tmp_path / part / "annotations.json"
        file.write_text(file.read_text().replace('"category_id": ', '"category_id": 10'))
    (tmp_path / "val/annotations.json").write_text('{"images": [')
    with pytest.raises(UserError, match=r"(?s)4 objects are of a category.*1 annotation files can't be parsed:\n.*val"):
        open_dense_source(data)


def test_pascal_voc_has_boxes_only(tmp_path):
    for stem in "abcd":
        write_voc(tmp_path, stem, voc_object("cat", (1, 1, 4, 3)))
    source = open_dense_source(str(tmp_path), "detect")
    assert (len(source.train), len(source.val), source.class_names) == (3, 1, ["cat"])
    with pytest.raises(UserError, match="has boxes and no masks"):
        open_dense_source(str(tmp_path), masks=True)


def test_label_maps_are_for_segmentation(maps, seen):
    calls, progress = seen
    source = open_dense_source(maps(training=[[0, 1], [2, 255]], validation=[[1, 1]]), progress=progress)
    assert isinstance(source.train, SegmentationSet)
    assert (len(source.train), len(source.val), source.split_made) == (2, 1, False)
    assert source.recognition.task == "segment"
    assert source.val.labels(0).tolist() == [[1, 1]]
    assert calls == [3, 1, 2, 3]


def test_label_maps_without_parts_are_split(maps):
    source = open_dense_source(maps(whole=[[0, 1]] * 10))
    assert (len(source.train), len(source.val), source.split_made) == (8, 2, True)


def test_label_maps_without_names_are_evaluated_by_number(maps):
    data = maps(whole=[[0, 1]])
    images, _ = open_dense_evaluation(data, ["road", "sky", "tree"])
    assert images.class_names == ["road", "sky", "tree"]
    assert images.labels(0).tolist() == [[0, 1]]
    with pytest.raises(UserError, match="value 1; the 1 classes are 0 to 0"):
        open_dense_evaluation(data, ["road"])


def test_label_maps_with_names_are_evaluated_by_name(maps, tmp_path):
    data = maps(whole=[[0, 1]])
    (tmp_path / "classes.txt").write_text("sky\nroad")
    images, _ = open_dense_evaluation(data, ["road", "sky", "tree"])
    assert images.labels(0).tolist() == [[1, 0]]
    with pytest.raises(UserError, match="labels of the data do not match"):
        open_dense_evaluation(data, ["road", "cloud"])


def test_for_a_model_without_names_the_data_s_own_count_by_their_order(maps, tmp_path):
    data = maps(whole=[[0, 1]])
    (tmp_path / "classes.txt").write_text("sky\nroad")
    images, _ = open_dense_evaluation(data, ["0", "1"], by_number=True)
    assert images.class_names == ["sky", "road"]
    assert images.labels(0).tolist() == [[0, 1]]
    with pytest.raises(UserError, match="has 2 classes, and the model 3"):
        open_dense_evaluation(data, ["0", "1", "2"], by_number=True)


def test_folders_of_classes_are_for_another_task(tmp_path):
    write_picture(tmp_path / "cat/1.png")
    with pytest.raises(UserError, match=r"is for classification: .* Accepted for detection: a folder in COCO's format"):
        open_dense_source(str(tmp_path))
    with pytest.raises(UserError, match="task must be 'detect' or 'segment', got 'classify'"):
        open_dense_source(str(tmp_path), "classify")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 400), (400, 1), (5000, 3)])
def test_extreme_images_are_opened(width, height, tmp_path):
    values = (0, 0, width, height)
    write_coco(
        tmp_path / "annotations.json", [image(i, width, height) for i in (1, 2)], [box(1, 1, values, 5)], CATS, tmp_path
    )
    source = open_dense_source(str(tmp_path))
    boxes = [images.target(0)["boxes"].tolist() for images in (source.train, source.val)]
    assert sorted(boxes) == [[], [[0, 0, width, height]]]
