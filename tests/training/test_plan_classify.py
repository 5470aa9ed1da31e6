import pytest

from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training.make_plan import make_plan
from transxnet.utils.errors import UserError


def test_null_options_are_resolved_and_recorded(photos, quiet):
    plan = make_plan(ClassifyConfig(str(photos), model="test_resnet", device="cpu"), quiet)
    chosen = {
        "img_size", "crop_pct", "hflip", "drop_path_rate", "batch_size", "epochs", "lr", "warmup_epochs", "ema_decay",
        "workers", "precision",
    }  # fmt: skip
    assert {sentence.split()[0] for sentence in plan.choices} == chosen
    assert all(getattr(plan.config, name) is not None for name in chosen)


def test_model_without_stochastic_depth_gets_rate_zero(photos, console):
    plan = make_plan(ClassifyConfig(str(photos), model="vgg11", img_size=32), console)
    assert plan.config.drop_path_rate == 0
    assert plan.model_args == {}
    assert "drop_path_rate 0 (the model does not support stochastic depth)" in plan.choices
    with pytest.raises(UserError, match=r"cannot create vgg11 with .*drop_path_rate 0.2"):
        make_plan(ClassifyConfig(str(photos), model="vgg11", drop_path_rate=0.2), console)


def test_digits_sample_is_not_mirrored(quiet):
    pytest.importorskip("sklearn")
    plan = make_plan(ClassifyConfig("digits", model="test_resnet", device="cpu"), quiet)
    assert plan.config.hflip == 0
    assert "hflip 0 (this sample must not be mirrored)" in plan.choices
