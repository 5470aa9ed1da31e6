"""Examples are a run's held-out pictures, and where there can be none it is said why."""

import shutil

import numpy as np
import pytest

from tests.helpers.class_folders import write_photos
from tests.helpers.dense_data import write_squares
from tests.helpers.web_runs import make_run
from transxnet.data.reading import image_decoding
from transxnet.data.split import read_split
from transxnet.runs.load import TrainedModel, load_model
from transxnet.utils.errors import UserError
from transxnet.web.about import subtitle, title
from transxnet.web.examples import find_examples
from transxnet.web.uploads import for_the_browser


def test_they_are_held_out_and_of_all_classes(photos_run, photos, console):
    trained = load_model(photos_run.path)
    found, why = find_examples(trained, 8, console)
    assert found is not None
    assert why == ""
    held_out = {
        line.partition(",")[0] for line in photos_run.split_file.read_text().splitlines() if line.endswith("val")
    }
    names = [found.name(i) for i in range(len(found))]
    assert set(names) == held_out  # three, one of each class
    assert sorted(found.captions) == ["blue", "green", "red"]
    for name, caption, number in zip(names, found.captions, range(3), strict=True):
        assert name.startswith(caption)
        pixels = np.asarray(found.picture(number), float).mean((0, 1))
        assert pixels.argmax() == ["red", "green", "blue"].index(caption)
    first, _ = find_examples(trained, 2, console)
    assert [first.name(i) for i in range(len(first))] == names[:2]


def test_of_data_with_a_held_out_part_only_that_is_looked_at(boxes_run, maps_run, console):
    for run, ending in ((boxes_run, ".png"), (maps_run, "")):
        found, _ = find_examples(load_model(run.path), 8, console)
        names = {found.name(i) for i in range(len(found))}
        assert {name.rpartition("/")[2] for name in names} == {f"{n}{ending or '.jpg'}" for n in (100, 101, 102)}
        assert found.picture(0).mode == "RGB"


def test_a_stored_split_of_a_detector_is_kept_to(tmp_path, console):
    data = write_squares(tmp_path / "squares", 6, 0) / "train"
    run = make_run(tmp_path / "run", data, task="detect", min_size=32, val_fraction=0.34)
    found, _ = find_examples(load_model(run.path), 8, console)
    names = [f"{n}.png" for n in range(6)]
    expected = {names[i] for i in read_split(run.split_file, names)["val"]}
    assert {found.name(i) for i in range(len(found))} == expected


def test_no_more_of_a_detector_s_pictures_are_decoded_than_are_shown(boxes_run, tmp_path, console, monkeypatch):
    data = write_squares(tmp_path / "squares", 6, 0) / "train"
    split_run = make_run(tmp_path / "run", data, task="detect", min_size=32, val_fraction=0.5)
    decoded = []
    open_whole = image_decoding.opened_image
    monkeypatch.setattr(
        image_decoding, "opened_image", lambda file, *more: decoded.append(file) or open_whole(file, *more)
    )
    for run in (boxes_run, split_run):
        decoded.clear()
        found, _ = find_examples(load_model(run.path), 2, console)
        assert len(decoded) == 2
        assert [thumbnail.size for thumbnail in found.thumbnails] == [
            for_the_browser(found.picture(i), 256).size for i in range(2)
        ]


def test_without_the_data_there_are_none_and_it_is_said(tmp_path, console):
    data = write_photos(tmp_path / "photos", 3)
    trained = load_model(make_run(tmp_path / "run", data, img_size=32, model="test_resnet").path)
    found, _ = find_examples(trained, 8, console)
    shutil.rmtree(data)
    with pytest.raises(UserError, match="can't be read any more"):
        found.picture(0)
    assert find_examples(trained, 0, console) == (None, "")
    none, why = find_examples(trained, 8, console)
    assert none is None
    assert why.startswith("No examples: the data of the run can't be opened. There is no folder")
    published = TrainedModel(trained.model, "test_resnet", trained.class_names, None)
    assert find_examples(published, 8, console) == (None, "No examples: a published model holds no pictures.")


def test_damaged_pictures_are_no_examples(tmp_path, console):
    data = write_photos(tmp_path / "photos", 3)
    run = make_run(tmp_path / "run", data, img_size=32, model="test_resnet")
    held_out = [line.partition(",")[0] for line in run.split_file.read_text().splitlines() if line.endswith("val")]
    (data / held_out[0]).write_text("no picture")
    found, _ = find_examples(load_model(run.path), 8, console)
    assert {found.name(i) for i in range(len(found))} == set(held_out[1:])


def test_what_is_said_of_a_model(photos_run, boxes_run):
    trained = load_model(photos_run.path)
    assert title(trained).endswith(" on photos")
    assert subtitle(trained) == "Classifier of 3 classes: blue, green, red."
    assert subtitle(load_model(boxes_run.path)) == "Detector of 2 classes: red, blue."
    photos_run.results_file.write_text('{"images": 3, "accuracy": 0.6667}')
    try:
        assert subtitle(trained).endswith("Accuracy: 66.7% on 3 held-out images.")
        photos_run.results_file.write_text("{")
        with pytest.raises(UserError, match=r"results\.json is damaged"):
            subtitle(trained)
    finally:
        photos_run.results_file.unlink()
