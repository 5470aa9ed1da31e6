import pytest

from transxnet.runs.recipes import make_config
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", "abc", "epochs must be an integer, got 'abc'"),
        ("epochs", 2.5, "epochs must be an integer, got 2.5"),
        ("epochs", 0, "at least 1, got 0"),
        ("epochs", True, "epochs must be an integer, got True"),
        ("lr", "fast", "lr must be a number, got 'fast'"),
        ("lr", float("nan"), "lr must be a number, got nan"),
        ("lr", -1, "lr must not be negative"),
        ("lr", [1e-3], "lr must be a number"),
        ("pretrained", "yes", "pretrained must be true or false, got 'yes'"),
        ("model", None, "model must be a string, got None"),
        ("model", 5, "model must be a string, got 5"),
        ("select", "worst", "select must be 'best' or 'last', got 'worst'"),
        ("hflip", 1.5, "hflip must be between 0 and 1"),
        ("ema_decay", 1.0, "ema_decay must be at least 0 and less than 1"),
        ("val_fraction", 1.0, "val_fraction must be at least 0 and less than 1"),
        ("min_scale", 0, "min_scale must be greater than 0"),
        ("img_size", 16, "img_size must be at least 32"),
        ("clip_grad", -1, "clip_grad must not be negative"),
        ("devices", 1.5, "devices must be an integer or a string"),
        ("batch_size", "most", "batch_size must be an integer or 'auto', got 'most'"),
        ("batch_size", 0, "batch_size must be an integer of at least 1, or auto, got 0"),
    ],
)
def test_bad_value_error_names_what_is_accepted(name, value, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        make_config("photos", task="classify", **{name: value})


def test_warmup_must_be_shorter_than_the_training():
    with pytest.raises(UserError, match=r"warmup_epochs must be less than epochs \(3\)"):
        ClassifyConfig("photos", epochs=3, warmup_epochs=3)


@pytest.mark.parametrize("milestones", ["8,4", "8,8", "0,3", "8,x", "-1"])
def test_milestones_must_grow_from_zero(milestones):
    assert ClassifyConfig("photos", milestones="2.5,8").decay_epochs() == [2.5, 8.0]
    with pytest.raises(UserError, match=r"milestones must be increasing epoch numbers"):
        ClassifyConfig("photos", milestones=milestones)
