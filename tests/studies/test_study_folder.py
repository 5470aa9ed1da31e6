import pytest

from transxnet.studies.study_folder import StudyFolder
from transxnet.utils.errors import UserError


def test_plan_is_read_as_it_was_written(whole, tmp_path):
    assert StudyFolder.read(whole.folder.path) == whole.folder


def test_runs_of_all_arms_follow_each_other_in_a_fold(whole):
    names = [planned.run.path.name for planned in whole.folder.planned_runs]
    assert names[:3] == ["test_resnet-fold1-seed0", "test_vit-fold1-seed0", "test_resnet-fold2-seed0"]
    assert (len(names), whole.folder.num_finished()) == (8, 8)
    first = whole.folder.planned_runs[0]
    assert first.title == "arm 1 of 2, fold 1 of 2, seed 1 of 2: test_resnet"
    assert first.options["split_file"] == str(whole.folder.path / "split-fold1.csv")


@pytest.mark.parametrize("text", ["", "arms: 3", "arms: []"])
def test_damaged_plan_is_an_error(tmp_path, text):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=r"study\.yaml is damaged or not part of a study"):
        StudyFolder.read(tmp_path)
