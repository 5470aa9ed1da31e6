import pytest

from transxnet.runs.pretrain_config import PretrainConfig
from transxnet.runs.task_configs import config_from_dict
from transxnet.utils.errors import UserError


def test_arguments_are_those_of_the_command():
    config = PretrainConfig("photos", method="simsiam", lr=1e-3)
    assert config.to_arguments() == ["--lr", "0.001", "--method", "simsiam"]
    assert config_from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(method="distill"), r"method distill needs a teacher\. Add --teacher"),
        (dict(teacher="runs/a"), r"teacher is for method distill, got method vicreg\. Use --method distill"),
        (dict(method="dino"), "method must be 'vicreg' or 'simsiam' or 'distill', got 'dino'"),
        (dict(img_size=16), "img_size must be at least 32 pixels, got 16"),
    ],
    ids=["no teacher", "not distill", "method", "size"],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        PretrainConfig("photos", **options)
