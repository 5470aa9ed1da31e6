import os
import shutil
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.annotated import box, image, write_coco, write_image, write_map
from tests.helpers.dense_data import write_coco_squares, write_yolo_squares
from tests.helpers.shards import (
    UNNAMED,
)
from transxnet.data import open_data as module
from transxnet.data.datasets.detection_dataset import DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationSet
from transxnet.data.formats.class_alignment import imagenet_synsets
from transxnet.data.formats.findings import Problem
from transxnet.data.formats.label_table import TableOptions
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.open_data import open_data, open_evaluation_data
from transxnet.data.recognize import recognize
from transxnet.data.samples.builtin_samples import SAMPLES
from transxnet.data.split import write_split
from transxnet.utils.errors import UserError


def evaluated(data: str, class_names: list[str]):
    """The evaluation images, opened without checks."""
    return open_evaluation_data(data, class_names, "classify", check_images=False)[0]


def test_elpv_validates_on_a_quarter_by_type_and_probability():
    pytest.importorskip("elpv_dataset")
    source = open_data("elpv")
    assert (len(source.train), len(source.val), source.img_size) == (1968, 656, 112)
    assert source.class_names == ["functional", "defective"]
    assert np.mean(source.val.own_labels == 0) == pytest.approx(0.69, abs=0.005)
    assert not set(source.train.own_names) & set(source.val.own_names)
    assert source.split_made
    assert any("license" in note.lower() and "BY-NC-SA" in note for note in source.notes)
    _, counts = np.unique(SAMPLES["elpv"]().strata[source.val.indices], axis=0, return_counts=True)
    assert abs(counts - np.array([588, 117, 56, 313, 920, 178, 50, 402]) / 4).max() < 1


def test_digits_validate_on_a_quarter_of_each_digit():
    pytest.importorskip("sklearn")
    source = open_data("digits")
    assert len(source.train) + len(source.val) == 1797
    assert len(source.val) == round(1797 / 4)
    counts = np.bincount(source.val.own_labels)
    assert (abs(counts - np.bincount(source.train.labels) / 4) < 1).all()


def test_a_folder_is_split_by_class_and_seed(folder):
    data = folder(cat=20, dog=10)
    source = open_data(data, val_fraction=0.3, seed=1)
    assert source.split_made
    assert source.class_names == ["cat", "dog"]
    assert Counter(source.val.own_labels.tolist()) == {0: 6, 1: 3}
    assert sorted(source.train.own_names + source.val.own_names) == sorted(source.train.names)
    assert open_data(data, val_fraction=0.3, seed=1).val.own_names == source.val.own_names
    assert open_data(data, val_fraction=0.3, seed=2).val.own_names != source.val.own_names


def test_a_stored_split_is_used_again(folder, tmp_path):
    data = folder(cat=5, dog=5)
    source = open_data(data, seed=3)
    write_split(tmp_path / "split.csv", {"train": source.train.own_names, "val": source.val.own_names})
    Image.new("L", (4, 4)).save(Path(data, "cat/new.png"))
    again = open_data(data, seed=4, val_fraction=0.5, stored_split=tmp_path / "split.csv")
    assert again.split_made
    assert again.train.own_names == source.train.own_names
    assert again.val.own_names == source.val.own_names
    assert again.val.own_labels.tolist() == source.val.own_labels.tolist()


def test_fraction_leaves_other_sets_and_follows_a_stored_split(folder, tmp_path):
    data = folder(cat=20, dog=10)
    whole, drawn = open_data(data, seed=1), open_data(data, seed=1, train_fraction=0.25)
    assert Counter(drawn.train.own_labels.tolist()) == {0: 4, 1: 2}
    assert set(drawn.train.own_names) < set(whole.train.own_names)
    assert drawn.val.own_names == whole.val.own_names
    assert "train_fraction 0.25: 6 of 24 training images are used" in drawn.notes
    assert drawn.divided["train"].own_names == whole.train.own_names
    write_split(tmp_path / "split.csv", {part: images.own_names for part, images in drawn.divided.items()})
    again = open_data(data, seed=1, train_fraction=0.25, stored_split=tmp_path / "split.csv")
    assert again.train.own_names == drawn.train.own_names


def test_fraction_is_drawn_from_an_own_training_set(folder):
    source = open_data(folder(train__cat=8, train__dog=8, val__cat=2, val__dog=2), train_fraction=0.5)
    assert (len(source.train), len(source.val), source.split_made) == (8, 4, False)


def test_train_and_val_folders_are_the_split(folder):
    source = open_data(folder(train__cat=3, train__dog=4, train__fox=2, val__dog=2, val__fox=1))
    assert not source.split_made
    assert source.train.own_names[0] == "cat/000.png"
    assert len(source.train) == 9
    assert source.val.class_names == source.class_names == ["cat", "dog", "fox"]
    assert source.val.own_labels.tolist() == [1, 1, 2]


def test_classes_of_val_that_train_lacks_are_an_error(folder):
    with pytest.raises(UserError, match=r"'catt'.*Did you mean 'cat'\?"):
        open_data(folder(train__cat=1, train__dog=1, val__catt=1))


def test_train_alone_is_split(folder):
    source = open_data(folder(train__cat=5, train__dog=5))
    assert source.split_made
    assert (len(source.train), len(source.val)) == (8, 2)


def test_one_class_is_an_error_in_training(folder):
    with pytest.raises(UserError, match="contains one class, 'cat'"):
        open_data(folder(cat=5))


def test_classes_of_one_image_are_an_error(folder):
    with pytest.raises(UserError, match="every class has only one image"):
        open_data(folder(cat=1, dog=1))


@pytest.mark.parametrize("fraction", [1, -0.1, 2])
def test_invalid_fraction_is_an_error(folder, fraction):
    with pytest.raises(UserError, match=f"at least 0 and less than 1, got {fraction}"):
        open_data(folder(cat=5, dog=5), val_fraction=fraction)


def test_fraction_of_zero_trains_on_all_images(folder, coco, tmp_path):
    for data, names in (
        (folder(cat=1, dog=3), ["cat/000.png", *(f"dog/{i:03d}.png" for i in range(3))]),
        ("digits", 1797),
    ):
        source = open_data(data, val_fraction=0, check_images=True)
        assert source.split_made
        assert source.train.own_names == names if isinstance(names, list) else len(source.train) == names
        assert len(source.val) == 0
        assert source.val.class_names == source.train.class_names
    source = open_data(coco(train=3, val=0), val_fraction=0)
    assert (len(source.train), len(source.val)) == (3, 0)
    write_split(tmp_path / "split.csv", {"train": source.train.own_names, "val": source.val.own_names})
    again = open_data(source.recognition, stored_split=tmp_path / "split.csv", val_fraction=0)
    assert (len(again.train), len(again.val)) == (3, 0)


def test_fraction_of_zero_keeps_an_own_validation_set(folder):
    source = open_data(folder(train__cat=1, train__dog=1, val__dog=2), val_fraction=0)
    assert (len(source.train), len(source.val)) == (2, 2)


@pytest.mark.parametrize(("name", "meant"), [("epvl", "elpv"), ("ELPV", ""), ("digit", "digits"), ("", "")])
def test_unknown_name_error_suggests_the_nearest(name, meant, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        open_data(name)
    message = str(raised.value)
    assert message.startswith(f"{name!r} is neither an existing folder nor a sample (elpv, digits, scenes).")
    assert f"Did you mean {meant!r}?" in message if meant else "Did you mean" not in message
    assert all(word in message for word in ("elpv", "digits", "transxnet layouts"))


def test_a_file_instead_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "photos.zip").touch()
    with pytest.raises(UserError, match=r"photos\.zip is a file"):
        open_data(str(tmp_path / "photos.zip"))


def test_a_folder_wins_over_a_sample_of_its_name(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / "elpv" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (4, 4)).save(tmp_path / "elpv" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    assert open_data("elpv").class_names == ["cat", "dog"]
    assert len(evaluated("elpv", ["cat", "dog"])) == 4


def test_evaluation_prefers_val_to_train_to_all(folder, tmp_path):
    data = folder(train__cat=3, train__dog=1, val__dog=2)
    assert evaluated(data, ["cat", "dog"]).own_names == ["dog/000.png", "dog/001.png"]
    assert evaluated(data, ["cat", "dog"]).own_labels.tolist() == [1, 1]
    assert len(evaluated(f"{data}/train", ["cat", "dog"])) == 4
    os.rename(f"{data}/val", tmp_path / "val")
    assert len(evaluated(data, ["cat", "dog"])) == 4
    assert len(evaluated(str(tmp_path), ["data", "train", "val", "dog"])) == 2


def test_evaluation_takes_the_models_classes(folder):
    images = evaluated(folder(fox=1, cat=2), ["ant", "fox", "cat"])
    assert images.class_names == ["ant", "fox", "cat"]
    assert images.own_names == ["cat/000.png", "cat/001.png", "fox/000.png"]
    assert images.own_labels.tolist() == [2, 2, 1]


def test_imagenet_v2_gets_the_right_labels(tmp_path):
    for number in (0, 1, 2, 9, 10, 11, 100, 281, 999):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "image.png").touch()
    images = evaluated(str(tmp_path), list(imagenet_synsets()))
    assert {Path(n).parent.name: str(label) for n, label in zip(images.own_names, images.own_labels, strict=True)} == {
        str(number): str(number) for number in (0, 1, 2, 9, 10, 11, 100, 281, 999)
    }


def test_evaluation_of_a_sample_uses_its_validation_images():
    pytest.importorskip("sklearn")
    images = evaluated("digits", list("0123456789"))
    assert images.own_names == open_data("digits").val.own_names
    with pytest.raises(UserError, match="classes of the data do not match"):
        evaluated("digits", ["cat", "dog"])


def stream(*classes: str) -> Stream:
    return Stream("tfds/pets", "validation", 10, list(classes))


def test_a_stream_is_taken_where_its_classes_are_the_models(monkeypatch):
    monkeypatch.setattr(module, "open_reader", lambda *_: stream("cat", "dog"))
    assert evaluated("tfds/pets", ["cat", "dog"]) == stream("cat", "dog")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("dog", "cat"), "another order than the model's; the first is 'dog'"),
        (("0", "1"), "do not match the model: .*'0'"),
        (("cat", "fox"), "do not match the model: .*'fox'"),
        (("cat", "dog", "fox"), "has 3 classes, but the model has 2"),
    ],
)
def test_a_stream_of_other_classes_is_an_error(classes, message, monkeypatch):
    monkeypatch.setattr(module, "open_reader", lambda *_: stream(*classes))
    with pytest.raises(UserError, match=message):
        evaluated("tfds/pets", ["cat", "dog"])


def test_shards_are_a_set_of_the_given_number_of_classes(shards):
    source = open_data(shards(train=[5, 4], validation=[3]), num_classes=3)
    assert not source.split_made
    assert (len(source.train), len(source.val)) == (9, 3)
    assert source.train.own_names[4:6] == ["pets-train-0000/00004", "pets-train-0001/00005"]
    assert source.val.own_labels.tolist() == [0, 1, 2]
    assert source.class_names == ["0", "1", "2"]


def test_shards_without_a_number_of_classes_are_an_error(shards):
    with pytest.raises(UserError, match=r"does not list its classes\. Set their number with --num-classes"):
        open_data(shards(train=[5], validation=[3]))


def test_streams_without_classes_take_those_of_the_model(monkeypatch):
    monkeypatch.setattr(module, "open_reader", lambda data, split, names: Stream(data, split, 4, names))
    images = evaluated("tfds/pets", ["cat", "dog", "fox"])
    assert isinstance(images, Stream)
    assert images.class_names == ["cat", "dog", "fox"]


def test_shards_are_evaluated_under_the_models_class_names(shards):
    data = shards(validation=[4])
    images = evaluated(data, ["cat", "dog", "fox"])
    assert images.class_names == ["cat", "dog", "fox"]
    assert images.own_labels.tolist() == [0, 1, 2, 0]


def test_hugging_face_data_is_a_set_in_its_own_order_of_classes(parquet):
    source = open_data(parquet({"train": [0, 1, 2, 1], "validation": [2, 0]}))
    assert source.class_names == ["dog", "cat", "fox"]
    assert source.train.own_labels.tolist() == [0, 1, 2, 1]
    assert source.val.own_labels.tolist() == [2, 0]
    assert source.val.own_names == ["validation/0", "validation/1"]
    assert [np.asarray(source.train.image(i))[0, 0].tolist() for i in (3, 1)] == [[30] * 3, [10] * 3]
    assert not source.split_made


def test_hugging_face_classes_are_matched_by_name(parquet):
    images = evaluated(parquet({"validation": [0, 1, 2]}), ["cat", "dog", "emu", "fox"])
    assert images.class_names == ["cat", "dog", "emu", "fox"]
    assert images.own_labels.tolist() == [1, 0, 3]


def test_classes_that_are_digits_are_matched_by_name(parquet):
    data = parquet({"validation": [0, 1, 2]}, names=["0", "1", "2"])
    assert evaluated(data, ["2", "0", "1"]).own_labels.tolist() == [1, 2, 0]
    with pytest.raises(UserError, match="do not match the model"):
        evaluated(data, ["dog", "cat", "fox"])


@UNNAMED
def test_hugging_face_labels_without_names_are_class_numbers(parquet):
    images = evaluated(parquet({"validation": [0, 2, 1]}, kind="int64"), ["cat", "dog", "fox"])
    assert images.class_names == ["cat", "dog", "fox"]
    assert images.own_labels.tolist() == [0, 2, 1]


def test_an_unknown_split_is_an_error_with_those_that_exist(parquet):
    with pytest.raises(UserError, match=r"split 'validation'.*\['train'\].*--val-split"):
        open_data(parquet({"train": [0, 1, 2]}))


CATS = [dict(id=5, name="cat"), dict(id=9, name="dog")]


SWAPPED = [dict(id=1, name="dog"), dict(id=2, name="cat")]


@pytest.fixture
def coco(tmp_path):
    """Make train/ and val/ in COCO format, with one object on each image."""

    def make(train: int = 4, val: int = 2, val_categories=SWAPPED, **change) -> str:
        for part, count, categories in (("train", train, CATS), ("val", val, val_categories)):
            if count:
                images = [image(i) for i in range(1, count + 1)]
                labels = [box(i, i, category=categories[i % 2 % len(categories)]["id"]) for i in range(1, count + 1)]
                write_coco(
                    tmp_path / part / "annotations.json", images, labels, categories, image_folder=tmp_path / part
                )
        return str(tmp_path)

    return make


@pytest.fixture
def maps(tmp_path):
    def make(**parts: list[list[int]]) -> str:
        for part, rows in parts.items():
            for i, values in enumerate(rows):
                where = "" if part == "whole" else part
                name = tmp_path / "masks" / where / f"{i}.png"
                write_map(name, np.array([values], np.uint8), image_path=tmp_path / "images" / where / f"{i}.jpg")
        return str(tmp_path)

    return make


def test_both_parts_have_the_classes_of_the_first(coco):
    source = open_data(coco())
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
        open_data(coco(val_categories=[dict(id=1, name="catt")]))


def test_a_fifth_is_split_off_without_a_validation_set(coco, tmp_path):
    data = coco(train=20, val=0)
    source = open_data(data, seed=3)
    assert source.split_made
    assert (len(source.train), len(source.val)) == (16, 4)
    assert sorted(label for labels in source.val.own_labels for label in labels) == [1, 1, 2, 2]
    assert open_data(data, seed=3).val.own_names == source.val.own_names
    assert open_data(data, seed=4).val.own_names != source.val.own_names
    write_split(tmp_path / "split.csv", {"train": source.train.own_names, "val": source.val.own_names})
    again = open_data(data, seed=4, stored_split=tmp_path / "split.csv")
    assert again.val.own_names == source.val.own_names


def test_few_images_of_different_classes_are_split(coco):
    source = open_data(coco(train=2, val=0))
    assert (len(source.train), len(source.val)) == (1, 1)
    with pytest.raises(UserError, match="val_fraction must be at least 0 and less than 1, got 1"):
        open_data(coco(), val_fraction=1)


def test_single_image_cannot_be_split(coco):
    with pytest.raises(UserError, match="a validation set needs at least two images in total, got 1"):
        open_data(coco(train=1, val=0))


def test_validation_set_alone_is_for_evaluation(coco):
    data = coco(train=0)
    with pytest.raises(UserError, match="has a validation set but no training set"):
        open_data(data)
    images, notes = open_evaluation_data(data, ["dog", "cat", "fox"])
    assert [labels.tolist() for labels in images.own_labels] == [[2], [1]]
    assert images.category_ids == [1, 2, None]
    assert notes == []


def test_evaluation_does_not_open_the_training_set(coco, maps, tmp_path, seen):
    data = coco()
    (tmp_path / "train/1.png").write_text("not an image")
    calls, progress = seen
    images, notes = open_evaluation_data(data, ["cat", "dog"], progress=progress)
    assert (len(images), notes, calls) == (2, [], [2, 1, 2])
    calls.clear()
    images, _ = open_evaluation_data(maps(train=[[0, 9]], val=[[0, 1]]), ["sky", "road"], "segment", progress=progress)
    assert (images.labels(0).tolist(), calls) == ([[0, 1]], [1, 1])


def test_classes_without_an_object_are_reported(coco, tmp_path):
    data = coco()
    file = tmp_path / "train/annotations.json"
    file.write_text(file.read_text().replace('"category_id": 9', '"category_id": 5'))
    assert open_data(data).notes == ["no training object has class 'dog'"]


@pytest.fixture
def seen():
    """A progress callback that records its calls."""
    calls = []

    @contextmanager
    def progress(total):
        calls.append(total)
        yield calls.append

    return calls, progress


def test_images_are_checked_once(coco, tmp_path, seen):
    data = coco(train=60, val=0)
    (tmp_path / "train/3.png").write_text("not an image")
    write_image(tmp_path / "train/5.png", 30, 40)
    calls, progress = seen
    source = open_data(data, progress=progress)
    assert calls == [60, *range(1, 61)]
    assert len(source.train) + len(source.val) == 58
    assert source.findings.places == {
        Problem.IMAGE_UNREADABLE: ["3.png: not an image, or an unsupported format"],
        Problem.IMAGE_SIZE: ["5.png: image 30x40, annotations 40x30; they may ignore the EXIF orientation"],
    }
    assert source.notes == [
        "1 image cannot be read, skipped: 3.png: not an image, or an unsupported format",
        source.notes[1],
    ]


def test_too_many_unreadable_images_are_an_error(coco, tmp_path):
    data = coco(train=20, val=0)
    for number in (3, 5):
        (tmp_path / f"train/{number}.png").write_text("not an image")
    with pytest.raises(UserError, match="2 of 20 images cannot be used, more than 5%"):
        open_data(data)


def test_refused_entries_of_both_parts_are_reported_together(coco, tmp_path):
    data = coco()
    for part in ("train", "val"):
        file = tmp_path / part / "annotations.json"
        file.write_text(file.read_text().replace('"category_id": ', '"category_id": 10'))
    (tmp_path / "val/annotations.json").write_text('{"images": [')
    with pytest.raises(
        UserError, match=r"(?s)4 objects have an undeclared category.*1 annotation file cannot be parsed:\n.*val"
    ):
        open_data(data)


def test_yolo_polygons_are_masks(tmp_path):
    write_yolo_squares(tmp_path, 2, 1, polygons=True)
    source = open_data(str(tmp_path), masks=True)
    assert (source.recognition.format, len(source.train), len(source.val), source.split_made) == ("yolo", 2, 1, False)
    assert source.train.has_masks
    target = source.train.target(0, masks=True)
    assert target["masks"].sum((1, 2)).tolist() == target["area"].tolist()


def test_validation_classes_are_matched_by_name(tmp_path):
    categories = [dict(id=1, name="red"), dict(id=2, name="blue")]
    write_coco_squares(tmp_path / "train", 4, categories)
    write_coco_squares(tmp_path / "val", 2, [dict(id=5, name="blue")])
    source = open_data(str(tmp_path))
    assert source.class_names == ["red", "blue"]
    assert {int(label) for labels in source.val.own_labels for label in labels} == {2}
    assert source.val.category_ids == [None, 5]


def test_label_maps_are_for_segmentation(maps, seen):
    calls, progress = seen
    source = open_data(maps(training=[[0, 1], [2, 255]], validation=[[1, 1]]), progress=progress)
    assert isinstance(source.train, SegmentationSet)
    assert (len(source.train), len(source.val), source.split_made) == (2, 1, False)
    assert source.recognition.task == "segment"
    assert source.val.labels(0).tolist() == [[1, 1]]
    assert calls == [3, 1, 2, 3]


def test_label_maps_without_parts_are_split(maps):
    source = open_data(maps(whole=[[0, 1]] * 10))
    assert (len(source.train), len(source.val), source.split_made) == (8, 2, True)


def test_label_maps_without_names_are_evaluated_by_number(maps):
    data = maps(whole=[[0, 1]])
    images, _ = open_evaluation_data(data, ["road", "sky", "tree"])
    assert images.class_names == ["road", "sky", "tree"]
    assert images.labels(0).tolist() == [[0, 1]]
    with pytest.raises(UserError, match="value 1; accepted: 0 to 0 for 1 classes"):
        open_evaluation_data(data, ["road"])


def test_label_maps_with_names_are_evaluated_by_name(maps, tmp_path):
    data = maps(whole=[[0, 1]])
    (tmp_path / "classes.txt").write_text("sky\nroad")
    images, _ = open_evaluation_data(data, ["road", "sky", "tree"])
    assert images.labels(0).tolist() == [[1, 0]]
    with pytest.raises(UserError, match="classes of the data do not match"):
        open_evaluation_data(data, ["road", "cloud"])


def test_a_model_without_names_takes_the_classes_by_order(maps, tmp_path):
    data = maps(whole=[[0, 1]])
    (tmp_path / "classes.txt").write_text("sky\nroad")
    images, _ = open_evaluation_data(data, ["0", "1"], by_number=True)
    assert images.class_names == ["sky", "road"]
    assert images.labels(0).tolist() == [[0, 1]]
    with pytest.raises(UserError, match="has 2 classes, but the model has 3"):
        open_evaluation_data(data, ["0", "1", "2"], by_number=True)


def test_class_folders_are_for_another_task(tmp_path):
    write_image(tmp_path / "cat/1.png")
    with pytest.raises(
        UserError, match=r"is data for task 'classify', got task 'detect': it contains.*transxnet layouts"
    ):
        open_data(str(tmp_path), "detect")
    with pytest.raises(UserError, match=r"is data for task 'classify', got task 'segment': .*transxnet layouts"):
        open_data(str(tmp_path), "segment")
    with pytest.raises(UserError, match="task must be 'detect' or 'segment' or 'classify', got 'count'"):
        open_data(str(tmp_path), "count")


def test_recognized_data_is_opened_without_another_search(coco, monkeypatch):
    recognition = recognize(coco())
    monkeypatch.setattr(module, "recognize", lambda *_: pytest.fail("it is recognized already"))
    source = open_data(recognition)
    assert source.recognition is recognition
    assert (len(source.train), len(source.val)) == (4, 2)
    images, _ = open_evaluation_data(recognition, ["cat", "dog"])
    assert images.own_names == source.val.own_names


def test_unreadable_images_of_classes_are_dropped(folder, seen):
    data = folder(train__cat=15, train__dog=15, val__cat=5, val__dog=5)
    for name in ("train/cat/003.png", "val/dog/001.png"):
        Path(data, name).write_text("no image")
    calls, progress = seen
    source = open_data(data, progress=progress)
    assert calls == [40, *range(1, 41)]
    assert (len(source.train), len(source.val)) == (29, 9)
    assert source.notes == [
        "2 images cannot be read, skipped: cat/003.png: not an image, or an unsupported format; "
        "dog/001.png: not an image, or an unsupported format"
    ]
    assert len(open_data(data, check_images=False).train) == 30
    with pytest.raises(UserError, match="1 of 10 images cannot be used, more than 5%"):
        open_evaluation_data(data, ["cat", "dog"])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 400), (400, 1), (5000, 3)])
def test_extreme_images_are_opened(width, height, tmp_path):
    values = (0, 0, width, height)
    write_coco(
        tmp_path / "annotations.json", [image(i, width, height) for i in (1, 2)], [box(1, 1, values, 5)], CATS, tmp_path
    )
    source = open_data(str(tmp_path))
    boxes = [images.target(0)["boxes"].tolist() for images in (source.train, source.val)]
    assert sorted(boxes) == [[], [[0, 0, width, height]]]


def test_test_folder_is_neither_trained_nor_validated_on(folder):
    source = open_data(folder(train__cat=8, train__dog=8, test__dog=2, test__cat=1))
    assert source.split_made
    assert (len(source.train), len(source.val), len(source.test)) == (13, 3, 3)
    assert source.test.own_labels.tolist() == [0, 1, 1]
    assert source.part("test") is source.test
    assert source.part() is source.val


def test_three_folders_are_three_sets(folder):
    data = folder(train__cat=3, train__dog=3, Valid__dog=2, TEST__cat=1)
    source = open_data(data)
    assert not source.split_made
    assert (len(source.train), len(source.val), len(source.test)) == (6, 2, 1)
    for split, count in ((None, 2), ("test", 1), ("train", 6)):
        assert len(open_evaluation_data(data, ["cat", "dog"], split=split)[0]) == count
    with pytest.raises(UserError, match=r"has no split 'other'\. Accepted: train, val, test\."):
        open_evaluation_data(data, ["cat", "dog"], split="other")


def test_missing_test_set_of_a_source_is_an_error(folder):
    with pytest.raises(UserError, match=r"has no split 'test'\. Accepted: train, val\."):
        open_data(folder(cat=4, dog=4)).part("test")


def test_test_set_of_label_maps_has_the_training_classes(tmp_path):
    values = np.repeat(np.uint8([0, 2]), 2)[:, None]
    for part, count in (("train", 3), ("val", 1), ("test", 2)):
        for i in range(count):
            write_map(tmp_path / f"masks/{part}/{i}.png", values, image_path=tmp_path / f"images/{part}/{i}.jpg")
    source = open_data(str(tmp_path))
    assert [len(images) for images in (source.train, source.val, source.test)] == [3, 1, 2]
    assert source.test.class_names == ["0", "1", "2"]
    assert len(open_evaluation_data(str(tmp_path), ["0", "1", "2"], split="test")[0]) == 2


def test_files_that_are_not_used_are_in_the_notes(folder):
    data = folder(train__cat=3, train__dog=3, other__cat=1)
    Path(data, "train/cat/a.heic").touch()
    (note,) = open_data(data).notes
    assert note == (
        "2 files or folders are not used: other/, next to train/; cat/a.heic: not an image by its extension"
    )


def test_classes_in_another_unicode_form_are_equal(folder):
    source = open_data(folder(**{"train__caf\u00e9": 2, "train__dog": 2, "val__cafe\u0301": 1}))
    assert source.val.own_labels.tolist() == [source.class_names.index("caf\u00e9")]


@pytest.fixture
def label_table(tmp_path):
    """Write 20 images and a table of their labels."""
    for number in range(20):
        write_image(tmp_path / f"{number // 2}_{number % 2}.png")

    def write(header: str, cell) -> str:
        rows = [f"{number // 2}_{number % 2}.png,{cell(number)}" for number in range(20)]
        (tmp_path / "labels.csv").write_text("\n".join([header, *rows]))
        return str(tmp_path / "labels.csv")

    return write


def test_label_table_is_split_by_group(label_table):
    source = open_data(label_table("path,label,patient", lambda number: f"{'ab'[number % 2]},{number // 4}"))
    assert (source.split_made, source.class_names, len(source.val)) == (True, ["a", "b"], 4)
    assert not set(source.train.own_groups) & set(source.val.own_groups)
    assert "columns: path=path, label=label, group=patient" in source.notes


def test_groups_are_taken_from_names(label_table, folder):
    data = label_table("path,label", lambda number: "ab"[number % 2])
    source = open_data(data, group_from=r"(\d+)_", seed=1)
    for images in (source.train, source.val):
        assert set(Counter(name.split("_")[0] for name in images.own_names).values()) == {2}
    assert open_data(folder(cat=4, dog=4), group_from=r"/00\d").train.groups is not None
    with pytest.raises(UserError, match=r"without a validation set of their own. Remove --group-from"):
        open_data(folder(train__cat=2, train__dog=2, val__cat=1), group_from="x")


def test_split_column_is_used_and_columns_are_options(label_table):
    data = label_table("path,x,y,part", lambda number: f"a,{number % 2},{['train', 'val', 'test'][number % 3]}")
    options = TableOptions(label_column="y", split_column="part")
    source = open_data(data, table=options)
    assert (source.split_made, len(source.train), len(source.val)) == (False, 7, 7)
    images, notes = open_evaluation_data(data, ["1", "0"], table=options)
    assert (len(images), images.own_labels[0]) == (7, 0)
    assert "columns: path=path, label=y, split=part" in notes


def test_targets_must_be_those_of_the_model(label_table, folder):
    data = label_table("path,age", lambda number: f"{number / 2}")
    assert open_data(data).train.targets == "regression"
    assert open_evaluation_data(data, ["years"], targets="regression")[0].class_names == ["years"]
    with pytest.raises(UserError, match=r"are classes, got targets multilabel. Use data with labels of this kind."):
        open_evaluation_data(folder(cat=2, dog=2), ["cat", "dog"], targets="multilabel")


def test_stored_split_may_name_the_test_set(photos, tmp_path):
    names = [f"{color}/{i:03d}.png" for color in ("blue", "green", "red") for i in range(4)]
    path = tmp_path / "split.csv"
    write_split(path, {"train": names[::3], "val": names[1::3], "test": names[2::3]})
    source = open_data(str(photos), stored_split=path, check_images=False)
    assert source.test is not None and source.test.own_names == names[2::3]
    assert {part: images.own_names for part, images in source.divided.items()} == {
        "train": names[::3], "val": names[1::3], "test": names[2::3],
    }  # fmt: skip
    write_split(path, {"train": names[::3], "val": names[1::3]})
    assert list(open_data(str(photos), stored_split=path, check_images=False).divided) == ["train", "val"]


def test_stored_split_of_data_with_a_validation_set_is_refused(photos, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(photos, tmp_path / "parts" / part)
    write_split(tmp_path / "split.csv", {"train": ["blue/000.png"]})
    with pytest.raises(UserError, match=r"has a validation set, so .*split\.csv cannot split it. Remove --split-file"):
        open_data(str(tmp_path / "parts"), stored_split=tmp_path / "split.csv")
