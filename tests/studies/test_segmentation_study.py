"""A small study of segmenters."""

import json
import shutil

import numpy as np
import pytest

from tests.helpers.dense_data import write_maps
from tests.helpers.html_page import Page
from tests.helpers.study_data import read_files
from tests.studies.conftest import no_commit
from transxnet.evaluation.evaluate import evaluate
from transxnet.studies.study import study


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Eight images with label maps."""
    root = write_maps(tmp_path_factory.mktemp("data") / "parts", train=8, val=0)
    for kind in ("images", "masks"):
        shutil.copytree(root / kind / "train", root.parent / "maps" / kind)
    return root.parent / "maps"


@pytest.fixture(scope="module")
def segmented(maps, quiet, tmp_path_factory):
    """A study of two arms on two folds."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "arms.yaml").write_text("slow: {model: test_resnet, lr: 1.0e-5}\nfast: {model: test_resnet, lr: 0.003}\n")
    other = shutil.copytree(maps, folder / "other")
    with no_commit():
        return study(
            maps, arms=folder / "arms.yaml", folds=2, test=other, out=folder / "study", task="segment", crop=64,
            resamples=100, batch_size=2, epochs=1, workers=0, device="cpu", val_fraction=0.3, console=quiet,
        )  # fmt: skip


def test_metrics_of_the_runs_are_those_of_their_results(segmented):
    folder = segmented.folder
    assert (folder.task, folder.metric, folder.positive) == ("segment", "miou", None)
    for arm in segmented.arms:
        for each in arm.folds:
            tested = folder.run(arm.arm, each.fold, each.seed).read_results()["test"]
            assert each.images.metrics()["miou"] == pytest.approx(tested["miou"])
            assert each.choices is None and len(each.images) == tested["images"] == 4
        (pooled,) = arm.pooled
        assert pooled.counts.sum() == sum(each.images.counts.sum() for each in arm.folds)
        row = segmented.estimates[arm.arm.name]["miou"]
        assert row.value == pytest.approx(pooled.metrics()["miou"]) and row.low <= row.value <= row.high


def test_comparison_is_a_paired_bootstrap_of_iou_and_dice(segmented):
    assert [each.metric for each in segmented.comparisons] == ["miou", "mean_dice"]
    assert {each.test for each in segmented.comparisons} == {"paired bootstrap"}


def test_test_data_is_evaluated_with_all_models(segmented, quiet):
    arm = segmented.arms[0]
    runs = [segmented.folder.run(arm.arm, each.fold, each.seed) for each in arm.folds]
    values = [evaluate(run.path, segmented.folder.test, workers=0, console=quiet).metrics()["miou"] for run in runs]
    assert segmented.external.rows[arm.arm.name]["miou"][0].value == pytest.approx(np.mean(values))


def test_files_have_iou_and_dice_of_each_class(segmented):
    path = segmented.folder.path
    found = json.loads((path / "study.json").read_text())
    names = [f"{kind}_{name}" for kind in ("iou", "dice") for name in segmented.folder.class_names]
    assert list(found["arms"][0]["metrics"])[3:] == names
    assert "threshold" not in found["arms"][0]["runs"][0]
    assert "8 images with label maps of 3 classes" in found["method"]
    assert "chose the epoch (highest validation mean IoU); the outer fold" in found["method"]
    assert "Mean Dice & " in (path / "study.tex").read_text()
    page = Page((path / "study.html").read_text())
    assert "Mean IoU" in page.text["results"] and "mean IoU" in page.text["hardest"]
    assert not {"calibration", "confusion", "curves"} & set(page.ids)


def test_resumed_finished_study_writes_the_same_files(segmented, resume_finished):
    assert resume_finished(segmented) == read_files(segmented.folder.path)
