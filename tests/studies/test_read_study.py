import json
import shutil

import pytest

from transxnet.experiments import train_runs
from transxnet.studies.study import study
from transxnet.studies.study_facts import describe_method
from transxnet.training.lightning_module import NonFiniteLoss
from transxnet.utils.errors import UserError


def diverge(**options):
    raise NonFiniteLoss("the loss became NaN or infinite.")


def test_arms_with_a_failed_run_are_left_out(whole, tmp_path, quiet, monkeypatch):
    path = shutil.copytree(whole.folder.path, tmp_path / "copy")
    monkeypatch.setattr(train_runs, "train", diverge)
    shutil.rmtree(path / "test_vit-fold2-seed1")
    result = study(resume=path, console=quiet)
    assert [arm.arm.name for arm in result.arms] == ["test_resnet"]
    assert result.comparisons == []
    assert (
        "test_vit-fold2-seed1 failed, so its arm is left out: the loss became NaN" in (path / "study.html").read_text()
    )
    shutil.rmtree(path / "test_resnet-fold1-seed0")
    with pytest.raises(
        UserError, match=r"no arm of the study in .* has finished all runs. test_resnet-fold1-seed0: the"
    ):
        study(resume=path, console=quiet)


def test_result_has_the_environments_of_all_runs_without_the_dates(whole, tmp_path, quiet, monkeypatch):
    assert whole.environment["precision"] == "32-true" and "torch" in whole.environment
    assert "date" not in whole.environment
    assert whole.config["epochs"] == 1 and "model" not in whole.config
    path = shutil.copytree(whole.folder.path, tmp_path / "copy")
    file = path / "test_vit-fold2-seed1" / "environment.json"
    stored = json.loads(file.read_text())
    stored["environment"]["cpu"] = "another CPU"
    file.write_text(json.dumps(stored))
    monkeypatch.setattr(train_runs, "train", None)
    result = study(resume=path, console=quiet)
    assert result.environment == {**whole.environment, "cpu": f"{whole.environment['cpu']} and another CPU"}
    assert f"{whole.environment['cpu']} and another CPU" in describe_method(result)
