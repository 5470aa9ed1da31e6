"""A small study of detectors."""

import json
import shutil

import pytest

from tests.helpers.dense_data import write_coco_squares
from tests.helpers.html_page import Page
from tests.helpers.study_data import read_files
from tests.studies.conftest import no_commit
from transxnet.studies.study import study
from transxnet.utils.errors import UserError

OPTIONS = dict(
    models=["test_resnet"], folds=2, task="detect", head="maskrcnn", min_size=64, resamples=100, batch_size=2, epochs=1,
    workers=0, device="cpu", val_fraction=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def detected(quiet, tmp_path_factory):
    """A study of one arm on two folds."""
    folder = tmp_path_factory.mktemp("study")
    data = write_coco_squares(folder / "squares", 8)
    with no_commit():
        return study(data, out=folder / "study", console=quiet, **OPTIONS)


def test_metrics_of_the_runs_are_those_of_their_results(detected):
    folder = detected.folder
    assert (folder.task, folder.metric, folder.masks) == ("detect", "ap", True)
    (arm,) = detected.arms
    for each in arm.folds:
        tested = folder.run(arm.arm, each.fold, each.seed).read_results()["test"]
        for name in ("ap50", "mask_ap50"):
            assert each.images.metrics()[name] == pytest.approx(tested[name], abs=0.01)  # stored boxes are rounded
    (pooled,) = arm.pooled
    assert len(pooled) == 8 and pooled.compared == ("ap", "mask_ap")


def test_files_have_the_ap_of_each_class(detected):
    path = detected.folder.path
    found = json.loads((path / "study.json").read_text())
    assert {"ap", "ap75", "class_ap_red", "mask_ap", "mask_class_ap_blue"} <= set(found["arms"][0]["metrics"])
    assert "8 images with boxes of 2 classes (red, blue)" in found["method"]
    assert "stratified by the rarest class of each image" in found["method"]
    page = Page((path / "study.html").read_text())
    assert "Mask AP, blue" in page.text["results"] and "AP" in page.text["hardest"]


def test_resumed_finished_study_writes_the_same_files(detected, resume_finished):
    assert resume_finished(detected) == read_files(detected.folder.path)


def test_detections_outside_of_the_outer_fold_are_refused(detected, tmp_path, quiet):
    path = shutil.copytree(detected.folder.path, tmp_path / "copy")
    run = path / "test_resnet-fold1-seed0"
    other = json.loads((path / "test_resnet-fold2-seed0" / "test_detections.json").read_text())
    other = other or [{"image_id": 0, "category_id": 4, "bbox": [0, 0, 1, 1], "score": 0.5}]
    (run / "test_detections.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"test_detections\.json is damaged or has other images or classes"):
        study(resume=path, console=quiet)
