import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transxnet.data import sources
from transxnet.data.image_set import ImageSet
from transxnet.data.labels import imagenet_synsets
from transxnet.data.readers import Stream
from transxnet.data.sources import open_evaluation, open_source, without_unreadable
from transxnet.data.split import write_split
from transxnet.utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Make a folder of class folders with so many pictures each; names may hold train/ and val/."""

    def make(**classes: int) -> str:
        for name, count in classes.items():
            directory = tmp_path / "data" / name.replace("__", "/")
            directory.mkdir(parents=True)
            for i in range(count):
                Image.new("L", (4, 4), i).save(directory / f"{i:03d}.png")
        return str(tmp_path / "data")

    return make


def spoil(data: str, *names: str) -> None:
    for name in names:
        Path(data, name).write_text("no picture")


def test_elpv_holds_a_quarter_out_by_type_and_probability():
    pytest.importorskip("elpv_dataset")
    source = open_source("elpv")
    assert (len(source.train), len(source.val), source.img_size) == (1968, 656, 112)
    assert source.class_names == ["functional", "defective"]
    assert np.mean(source.val.own_labels == 0) == pytest.approx(0.69, abs=0.005)
    assert not set(source.train.own_names) & set(source.val.own_names)
    assert source.split_made
    assert any("licence" in note.lower() and "BY-NC-SA" in note for note in source.notes)
    _, counts = np.unique(sources.SAMPLES["elpv"]().strata[source.val.indices], axis=0, return_counts=True)
    assert abs(counts - np.array([588, 117, 56, 313, 920, 178, 50, 402]) / 4).max() < 1


def test_digits_hold_a_quarter_of_each_digit_out():
    pytest.importorskip("sklearn")
    source = open_source("digits")
    assert len(source.train) + len(source.val) == 1797
    assert len(source.val) == round(1797 / 4)
    counts = np.bincount(source.val.own_labels)
    assert (abs(counts - np.bincount(source.train.labels) / 4) < 1).all()


def test_a_folder_is_split_by_class_and_seed(folder):
    data = folder(cat=20, dog=10)
    source = open_source(data, val_fraction=0.3, seed=1)
    assert source.split_made
    assert source.class_names == ["cat", "dog"]
    assert Counter(source.val.own_labels.tolist()) == {0: 6, 1: 3}
    assert sorted(source.train.own_names + source.val.own_names) == sorted(source.train.names)
    assert open_source(data, val_fraction=0.3, seed=1).val.own_names == source.val.own_names
    assert open_source(data, val_fraction=0.3, seed=2).val.own_names != source.val.own_names


def test_a_stored_split_is_used_again(folder, tmp_path):
    data = folder(cat=5, dog=5)
    source = open_source(data, seed=3)
    write_split(tmp_path / "split.csv", {"train": source.train.own_names, "val": source.val.own_names})
    Image.new("L", (4, 4)).save(Path(data, "cat/new.png"))
    again = open_source(data, seed=4, val_fraction=0.5, stored_split=tmp_path / "split.csv")
    assert again.split_made
    assert again.train.own_names == source.train.own_names
    assert again.val.own_names == source.val.own_names
    assert again.val.own_labels.tolist() == source.val.own_labels.tolist()


def test_train_and_val_folders_are_the_split(folder):
    source = open_source(folder(train__cat=3, train__dog=4, train__fox=2, val__dog=2, val__fox=1))
    assert not source.split_made
    assert source.train.own_names[0] == "cat/000.png"
    assert len(source.train) == 9
    assert source.val.class_names == source.class_names == ["cat", "dog", "fox"]
    assert source.val.own_labels.tolist() == [1, 1, 2]


def test_classes_of_val_that_train_lacks_are_an_error(folder):
    with pytest.raises(UserError, match=r"'catt'.*Did you mean 'cat'\?"):
        open_source(folder(train__cat=1, train__dog=1, val__catt=1))


def test_train_alone_is_split(folder):
    source = open_source(folder(train__cat=5, train__dog=5))
    assert source.split_made
    assert (len(source.train), len(source.val)) == (8, 2)


def test_val_alone_is_an_error_in_training(folder):
    with pytest.raises(UserError, match=r"holds val/ and no train/\. Accepted: .* Add .*train, or give .*val"):
        open_source(folder(val__cat=5, val__dog=5))


def test_one_class_is_an_error_in_training(folder):
    with pytest.raises(UserError, match="holds one class, 'cat'"):
        open_source(folder(cat=5))


def test_classes_of_one_image_are_an_error(folder):
    with pytest.raises(UserError, match="none can be held out"):
        open_source(folder(cat=1, dog=1))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_a_fraction_that_is_none_is_an_error(folder, fraction):
    with pytest.raises(UserError, match=f"between 0 and 1, got {fraction}"):
        open_source(folder(cat=5, dog=5), val_fraction=fraction)


@pytest.mark.parametrize(("name", "meant"), [("epvl", "elpv"), ("ELPV", ""), ("digit", "digits"), ("", "")])
def test_a_name_that_is_nothing_is_an_error_with_the_nearest(name, meant, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as raised:
        open_source(name)
    message = str(raised.value)
    assert message.startswith(f"there is no folder and no sample {name!r}.")
    assert f"Did you mean {meant!r}?" in message if meant else "Did you mean" not in message
    assert all(word in message for word in ("Accepted", "elpv", "digits", "hfds/..."))


def test_a_file_instead_of_a_folder_is_an_error(tmp_path):
    (tmp_path / "photos.zip").touch()
    with pytest.raises(UserError, match=r"photos\.zip is a file"):
        open_source(str(tmp_path / "photos.zip"))


def test_a_folder_wins_over_a_sample_of_its_name(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / "elpv" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("L", (4, 4)).save(tmp_path / "elpv" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    assert open_source("elpv").class_names == ["cat", "dog"]
    assert len(open_evaluation("elpv", ["cat", "dog"])) == 4


def test_evaluation_prefers_val_to_train_to_all(folder, tmp_path):
    data = folder(train__cat=3, train__dog=1, val__dog=2)
    assert open_evaluation(data, ["cat", "dog"]).own_names == ["dog/000.png", "dog/001.png"]
    assert open_evaluation(data, ["cat", "dog"]).own_labels.tolist() == [1, 1]
    assert len(open_evaluation(f"{data}/train", ["cat", "dog"])) == 4
    os.rename(f"{data}/val", tmp_path / "val")
    assert len(open_evaluation(data, ["cat", "dog"])) == 4
    assert len(open_evaluation(str(tmp_path), ["data", "train", "val", "dog"])) == 2


def test_evaluation_takes_the_models_classes(folder):
    images = open_evaluation(folder(fox=1, cat=2), ["ant", "fox", "cat"])
    assert images.class_names == ["ant", "fox", "cat"]
    assert images.own_names == ["cat/000.png", "cat/001.png", "fox/000.png"]
    assert images.own_labels.tolist() == [2, 2, 1]


def test_imagenet_v2_gets_the_right_labels(tmp_path):
    for number in (0, 1, 2, 9, 10, 11, 100, 281, 999):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "picture.png").touch()
    images = open_evaluation(str(tmp_path), list(imagenet_synsets()))
    assert {Path(n).parent.name: str(label) for n, label in zip(images.own_names, images.own_labels, strict=True)} == {
        str(number): str(number) for number in (0, 1, 2, 9, 10, 11, 100, 281, 999)
    }


def test_evaluation_on_a_sample_takes_its_held_out_images():
    pytest.importorskip("sklearn")
    images = open_evaluation("digits", list("0123456789"))
    assert images.own_names == open_source("digits").val.own_names
    with pytest.raises(UserError, match="labels of the data do not match"):
        open_evaluation("digits", ["cat", "dog"])


def stream(*classes: str) -> Stream:
    return Stream("tfds/pets", "validation", 10, list(classes))


def test_a_stream_is_taken_where_its_classes_are_the_models(monkeypatch):
    monkeypatch.setattr(sources, "open_reader", lambda *_: stream("cat", "dog"))
    assert open_evaluation("tfds/pets", ["cat", "dog"]) == stream("cat", "dog")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("dog", "cat"), "has the model's classes in another order, 'dog' first"),
        (("0", "1"), "do not match those of the model: .*'0'"),
        (("cat", "fox"), "do not match those of the model: .*'fox'"),
        (("cat", "dog", "fox"), "has 3 classes, the model 2"),
    ],
)
def test_a_stream_of_other_classes_is_an_error(classes, message, monkeypatch):
    monkeypatch.setattr(sources, "open_reader", lambda *_: stream(*classes))
    with pytest.raises(UserError, match=message):
        open_evaluation("tfds/pets", ["cat", "dog"])


def test_sets_without_damage_are_left_as_they_are(folder):
    images = open_evaluation(folder(cat=3, dog=3), ["cat", "dog"])
    (kept,), notes = without_unreadable(images)
    assert kept is images
    assert notes == []
    assert without_unreadable(stream("a", "b")) == ([stream("a", "b")], [])


def test_unreadable_images_are_left_out_and_named(folder):
    data = folder(cat=30, dog=30)
    spoil(data, "cat/003.png", "dog/007.png")
    Path(data, "dog/008.png").write_bytes(b"")
    images = open_evaluation(data, ["cat", "dog"])
    (kept,), notes = without_unreadable(images)
    assert isinstance(kept, ImageSet)
    assert set(images.own_names) - set(kept.own_names) == {"cat/003.png", "dog/007.png", "dog/008.png"}
    assert kept.own_labels.tolist() == [0] * 29 + [1] * 28
    assert notes == [
        "3 unreadable images are left out: cat/003.png: not an image file, or of an unknown format; "
        "dog/007.png: not an image file, or of an unknown format; dog/008.png: the file is empty"
    ]


def test_more_than_a_twentieth_unreadable_is_an_error(folder):
    data = folder(cat=20, dog=20)
    spoil(data, "cat/000.png", "cat/001.png")
    assert len(without_unreadable(open_evaluation(data, ["cat", "dog"]))[0][0]) == 38
    spoil(data, "dog/000.png")
    with pytest.raises(UserError) as raised:
        without_unreadable(open_evaluation(data, ["cat", "dog"]))
    message = str(raised.value)
    assert message.startswith("3 of 40 images can't be read, more than 5%:\n  cat/000.png: not an image file")
    assert message.endswith("Repair or remove them, or check that this is the right folder.")


def test_one_bad_file_in_a_small_held_out_part_is_no_calamity(folder):
    data = folder(cat=20, dog=20)
    spoil(data, "dog/000.png")
    images = open_evaluation(data, ["cat", "dog"])
    val = images.subset(np.array([0, 20]))
    train = images.subset(np.setdiff1d(np.arange(40), val.indices))
    done = []
    (kept_train, kept_val), notes = without_unreadable(train, val, progress=done.append)
    assert (len(kept_train), len(kept_val), len(notes)) == (38, 1, 1)
    assert done[-1] == 40


def test_long_lists_of_unreadable_images_are_cut_in_errors(folder):
    data = folder(cat=20, dog=20)
    spoil(data, *(f"cat/{i:03d}.png" for i in range(13)))
    with pytest.raises(UserError, match=r"13 of 40(.|\n)*cat/009\.png.*\n  and 3 more\n"):
        without_unreadable(open_evaluation(data, ["cat", "dog"]))


def test_a_class_without_a_readable_image_is_an_error_that_names_it(folder):
    data = folder(cat=60, dog=2)
    spoil(data, "dog/000.png", "dog/001.png")
    with pytest.raises(UserError, match=r"no image can be read of the class 'dog':\n  dog/000\.png: .*"):
        without_unreadable(open_evaluation(data, ["cat", "dog"]))
