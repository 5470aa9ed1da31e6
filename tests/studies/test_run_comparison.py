import json
import shutil

import numpy as np
import pytest

from transxnet.runs.run_folder import Run
from transxnet.studies.run_comparison import compare_runs
from transxnet.utils.errors import UserError


def open_runs(whole, *names):
    return [Run(whole.folder.path / name) for name in names]


@pytest.fixture(scope="module")
def compared(whole):
    """Two arms on the same outer fold."""
    return compare_runs(open_runs(whole, "test_resnet-fold1-seed0", "test_vit-fold1-seed0"), None, None, 100)


def test_options_that_differ_are_listed(compared):
    options = dict(compared.options)
    assert options["model"] == ["test_resnet", "test_vit"]
    assert "split_file" not in options  # the file of each run in its own folder
    assert all(len(set(values)) == 2 for values in options.values())


def test_metrics_are_those_of_the_test_set(compared):
    assert compared.split == "test"
    tested = [run.read_results()["test"] for run in compared.runs.values()]
    assert dict(compared.metrics)["accuracy"] == [each["accuracy"] for each in tested]


def test_paired_results_are_those_of_the_same_images(whole, compared):
    paired = compared.paired
    assert (paired.metric, paired.positive, paired.images) == ("auroc", "defect", len(whole.folds.outer(1)))
    assert [run.results["test"]["fitted"]["positive"] for run in compared.runs.values()] == ["defect", "defect"]
    assert paired.groups == len(np.unique(whole.folds.groups[whole.folds.outer(1)]))
    for name, arm in zip(paired.rows, whole.arms, strict=True):
        fold = arm.folds[0].images.metrics()
        assert {each: value.value for each, value in paired.rows[name].items()} == pytest.approx(fold, nan_ok=True)
    assert {each.test for each in paired.comparisons} == {"paired bootstrap"}


def test_validation_images_choose_nothing_for_themselves(whole):
    runs = open_runs(whole, "test_resnet-fold1-seed0", "test_vit-fold1-seed0")
    paired = compare_runs(runs, "validation", "mcc", 100).paired
    assert paired.metric == "mcc"
    assert not {"sensitivity", "ece_scaled", "brier_scaled"} & set(paired.rows["test_vit-fold1-seed0"])


def test_other_images_have_no_paired_results(whole):
    compared = compare_runs(open_runs(whole, "test_resnet-fold1-seed0", "test_resnet-fold2-seed0"), None, None, 100)
    assert compared.paired is None
    assert len(compared.metrics) >= 3


def test_detectors_are_compared_by_their_metrics(boxes_run, tmp_path):
    other = Run(shutil.copytree(boxes_run.path, tmp_path / "other"))
    other.write_config(other.read_config().replace(lr=1e-4))
    compared = compare_runs([boxes_run, other], None, None, 100)
    assert compared.paired is None and compared.split == "validation"
    assert [name for name, _ in compared.options] == ["lr"]
    assert dict(compared.metrics)["ap"] == [json.loads(boxes_run.results_file.read_text())["ap"]] * 2


def test_runs_that_cannot_be_compared_are_refused(whole, boxes_run, photos_run):
    (run,) = open_runs(whole, "test_resnet-fold1-seed0")
    with pytest.raises(UserError, match="a comparison needs at least two runs, got 1"):
        compare_runs([run], None, None, 100)
    with pytest.raises(UserError, match="a run is given twice"):
        compare_runs([run, run], None, None, 100)
    with pytest.raises(UserError, match="the runs predict classes and detect"):
        compare_runs([run, boxes_run], None, None, 100)
    with pytest.raises(UserError, match=r"photos has no test set\. Use --split validation"):
        compare_runs([run, photos_run], "test", None, 100)
