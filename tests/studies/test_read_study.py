import shutil

import pytest

from transxnet.experiments import train_runs
from transxnet.studies.study import study
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


def test_result_has_the_environment_without_the_date(whole):
    assert "torch" in whole.environment and "date" not in whole.environment
    assert whole.config["epochs"] == 1 and "model" not in whole.config
