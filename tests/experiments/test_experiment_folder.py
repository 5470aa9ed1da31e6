from pathlib import Path

import pytest

from tests.helpers.small_experiment import SmallExperiment
from transxnet.experiments.experiment_folder import stored_data
from transxnet.utils.errors import UserError


def test_plan_is_read_as_it_was_written(tmp_path):
    folder = SmallExperiment(tmp_path, ("a", "b"))
    folder.write()
    assert SmallExperiment.read(tmp_path) == folder
    assert folder.resume_command == f"transxnet small --resume {tmp_path}"


def test_runs_with_a_report_are_finished(tmp_path):
    folder = SmallExperiment(tmp_path, ("a", "b"))
    assert (folder.num_runs, folder.num_finished()) == (2, 0)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "report.html").touch()
    assert [planned.finished for planned in folder.planned_runs] == [False, True]
    assert folder.num_finished() == 1


@pytest.mark.parametrize("text", ["", "[]", "names: 3", "names: [../a]", "names: [a]\nother: 1"])
def test_damaged_plan_is_an_error(tmp_path, text):
    with pytest.raises(UserError, match=r"is not the folder of a small experiment: small\.yaml is missing"):
        SmallExperiment.read(tmp_path)
    (tmp_path / SmallExperiment.PLAN_FILE).write_text(text)
    with pytest.raises(UserError, match=r"small\.yaml is damaged or not part of a small experiment"):
        SmallExperiment.read(tmp_path)


def test_folder_is_the_next_free_one_or_the_given_empty_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert SmallExperiment.choose_path(None, "small", "photos") == Path("runs/small-photos-1")
    Path("runs/small-photos-1").mkdir(parents=True)
    assert SmallExperiment.choose_path(None, "small", "photos") == Path("runs/small-photos-2")
    assert SmallExperiment.choose_path("runs/small-photos-1", "small", "photos") == Path("runs/small-photos-1")
    with pytest.raises(UserError, match=r"runs is not empty. Choose another --out"):
        SmallExperiment.choose_path("runs", "small", "photos")
    SmallExperiment(Path("runs/small-photos-1"), ("a",)).write()
    with pytest.raises(UserError, match=r"already contains a small experiment. Resume it with --resume"):
        SmallExperiment.choose_path("runs/small-photos-1", "small", "photos")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match=r"several processes need the same output folder. Use --out"):
        SmallExperiment.choose_path(None, "small", "photos")


def test_data_is_stored_with_its_complete_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert stored_data("photos") == str(tmp_path / "photos")
    assert stored_data("digits") == "digits"
