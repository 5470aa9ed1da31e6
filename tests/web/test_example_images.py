"""Examples are validation images of the run; without any, the page gives the reason."""

import shutil

import numpy as np
import pytest

from tests.helpers.class_folders import write_photos
from tests.helpers.dense_data import write_squares
from tests.helpers.untrained_runs import make_untrained_run
from transxnet.data.reading import image_decoding
from transxnet.data.split import read_split
from transxnet.runs.load import load_model
from transxnet.runs.trained_models import TrainedModel
from transxnet.utils.errors import UserError
from transxnet.web.example_images import find_examples
from transxnet.web.uploads import resize_for_browser


def test_examples_are_validation_images_of_all_classes(photos_run, photos, console):
    trained = load_model(photos_run.path)
    found, why = find_examples(trained, 8, console)
    assert found is not None
    assert why == ""
    val_names = {
        line.partition(",")[0] for line in photos_run.split_file.read_text().splitlines() if line.endswith("val")
    }
    names = [found.name(i) for i in range(len(found))]
    assert set(names) == val_names  # three images, one of each class
    assert sorted(found.captions) == ["blue", "green", "red"]
    for name, caption, number in zip(names, found.captions, range(3), strict=True):
        assert name.startswith(caption)
        pixels = np.asarray(found.image(number), float).mean((0, 1))
        assert pixels.argmax() == ["red", "green", "blue"].index(caption)
    first, _ = find_examples(trained, 2, console)
    assert [first.name(i) for i in range(len(first))] == names[:2]


def test_validation_set_of_the_data_is_used(boxes_run, maps_run, console):
    for run, ending in ((boxes_run, ".png"), (maps_run, "")):
        found, _ = find_examples(load_model(run.path), 8, console)
        names = {found.name(i) for i in range(len(found))}
        assert {name.rpartition("/")[2] for name in names} == {f"{n}{ending or '.jpg'}" for n in (100, 101, 102)}
        assert found.image(0).mode == "RGB"


def test_stored_split_of_a_detector_is_used(tmp_path, console):
    data = write_squares(tmp_path / "squares", 6, 0) / "train"
    run = make_untrained_run(tmp_path / "run", data, task="detect", min_size=32, val_fraction=0.34)
    found, _ = find_examples(load_model(run.path), 8, console)
    names = [f"{n}.png" for n in range(6)]
    expected = {names[i] for i in read_split(run.split_file, names)["val"]}
    assert {found.name(i) for i in range(len(found))} == expected


def test_only_the_shown_images_are_decoded(boxes_run, tmp_path, console, monkeypatch):
    data = write_squares(tmp_path / "squares", 6, 0) / "train"
    split_run = make_untrained_run(tmp_path / "run", data, task="detect", min_size=32, val_fraction=0.5)
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
            resize_for_browser(found.image(i), 256).size for i in range(2)
        ]


def test_missing_data_is_reported(tmp_path, console):
    data = write_photos(tmp_path / "photos", 3)
    trained = load_model(make_untrained_run(tmp_path / "run", data, img_size=32, model="test_resnet").path)
    found, _ = find_examples(trained, 8, console)
    shutil.rmtree(data)
    with pytest.raises(UserError, match="cannot read the example "):
        found.image(0)
    assert find_examples(trained, 0, console) == (None, "")
    none, why = find_examples(trained, 8, console)
    assert none is None
    assert why.startswith(f"No examples: cannot open the data of the run. {str(data)!r} is neither an existing folder")
    published = TrainedModel(trained.model, "test_resnet", trained.class_names, None)
    assert find_examples(published, 8, console) == (None, "No examples: a published model has no validation images.")


def test_damaged_images_are_skipped(tmp_path, console):
    data = write_photos(tmp_path / "photos", 3)
    run = make_untrained_run(tmp_path / "run", data, img_size=32, model="test_resnet")
    val_names = [line.partition(",")[0] for line in run.split_file.read_text().splitlines() if line.endswith("val")]
    (data / val_names[0]).write_text("not an image")
    found, _ = find_examples(load_model(run.path), 8, console)
    assert {found.name(i) for i in range(len(found))} == set(val_names[1:])
