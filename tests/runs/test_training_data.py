"""The data of a run is opened with the run's options and its stored split."""

import io
import shutil

import pytest
from rich.console import Console

from tests.helpers.class_folders import write_photos
from transxnet.data.split import write_split
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.runs.training_data import open_run_data, run_config, trained_on
from transxnet.utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return write_photos(tmp_path / "photos", 5)


def test_other_paths_to_the_same_folder_are_recognized(folder, tmp_path, monkeypatch):
    config = ClassifyConfig(str(folder))
    monkeypatch.chdir(tmp_path)
    for data in (None, str(folder), "photos", f"{folder}/../photos"):
        assert trained_on(config, data)
    assert not trained_on(config, str(shutil.copytree(folder, tmp_path / "copy")))


def test_stored_split_is_used(folder, tmp_path):
    drawn = open_run_data(ClassifyConfig(str(folder)), None, None)
    parts = {"train": drawn.val.own_names, "val": drawn.train.own_names}  # swapped
    write_split(tmp_path / "split.csv", parts)
    stored = open_run_data(ClassifyConfig(str(folder)), None, tmp_path / "split.csv")
    assert sorted(stored.train.own_names) == sorted(parts["train"])
    assert sorted(stored.val.own_names) == sorted(parts["val"])


def test_run_without_validation_images_is_an_error(folder):
    assert len(open_run_data(ClassifyConfig(str(folder)), None, None).part()) == 3
    with pytest.raises(UserError, match=r"no validation set: .* all images of .* \(val_fraction 0\)\. Name other"):
        open_run_data(ClassifyConfig(str(folder), val_fraction=0), None, None).part()


@pytest.mark.parametrize("check_images", [True, False])
def test_unreadable_images_are_dropped_on_request(check_images, folder):
    (folder / "red" / "broken.png").write_bytes(b"\x89PNG\r\n")
    for i in range(30):  # one in 46 images may be unreadable, one in 16 not
        shutil.copy(folder / "blue" / "000.png", folder / "blue" / f"copy{i}.png")
    config = ClassifyConfig(str(folder))
    console = Console(file=io.StringIO())
    source = open_run_data(config, console, None, check_images=check_images)
    names = [*source.train.own_names, *source.val.own_names]
    assert len(names) == 45 + (not check_images)
    assert ("red/broken.png" in names) != check_images


@pytest.fixture
def run(folder, tmp_path) -> Run:
    """The start of a run on the folder."""
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.write_config(ClassifyConfig(str(folder)))
    source = open_run_data(ClassifyConfig(str(folder)), None, None)
    write_split(run.split_file, {"train": source.train.own_names, "val": source.val.own_names})
    return run


def test_moved_data_has_the_split_of_the_run(run, folder, tmp_path):
    copy = str(shutil.copytree(folder, tmp_path / "copy"))
    assert run_config(run, copy).data == str(folder)
    shutil.move(folder, tmp_path / "moved" / "here")
    assert run_config(run, str(tmp_path / "moved")).data == str(tmp_path / "moved")
    (tmp_path / "copy" / "red" / "000.png").unlink()
    assert run_config(run, copy).data == str(folder)


def test_missing_data_of_a_run_is_an_error_with_its_file(run, folder):
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"photos, the data of the run .*, no longer exists\. .*set data in .*yaml"):
        run_config(run)
