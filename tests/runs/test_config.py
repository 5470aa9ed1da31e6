import dataclasses

import pytest
import yaml

from transxnet.runs.config import TrainConfig
from transxnet.runs.task_configs import CONFIGS, ClassifyConfig, config_of, make_config, read_recipe, recipe_names
from transxnet.utils.errors import UserError


def test_every_option_but_the_data_has_one_topic_or_is_its_task_s_own():
    for config in CONFIGS.values():
        listed = [*(name for names in TrainConfig.TOPICS.values() for name in names), *config.OWN]
        assert sorted([*listed, "data"]) == sorted(field.name for field in dataclasses.fields(config))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("epochs", "abc", "epochs must be a whole number, got 'abc'"),
        ("epochs", 2.5, "epochs must be a whole number, got 2.5"),
        ("epochs", 0, "at least 1, got 0"),
        ("epochs", True, "epochs must be a whole number, got True"),
        ("lr", "fast", "lr must be a number, got 'fast'"),
        ("lr", float("nan"), "lr must be a number, got nan"),
        ("lr", -1, "lr must not be negative"),
        ("lr", [1e-3], "lr must be a number"),
        ("pretrained", "yes", "pretrained must be true or false, got 'yes'"),
        ("model", None, "model must be text, got None"),
        ("model", 5, "model must be text, got 5"),
        ("select", "worst", "select must be 'best' or 'last', got 'worst'"),
        ("hflip", 1.5, "hflip must lie between 0 and 1"),
        ("ema_decay", 1.0, "ema_decay must be at least 0 and less than 1"),
        ("val_fraction", 0.0, "val_fraction must lie between 0 and 1"),
        ("min_scale", 0, "min_scale must be more than 0"),
        ("img_size", 16, "img_size must be at least 32"),
        ("clip_grad", -1, "clip_grad must not be negative"),
        ("devices", 1.5, "devices must be a whole number or text"),
        ("batch_size", "most", "batch_size must be a whole number or 'auto', got 'most'"),
        ("batch_size", 0, "batch_size must be a whole number of at least 1, or auto, got 0"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_accepted(name, value, said):
    with pytest.raises(UserError, match=said.replace("(", r"\(")):
        make_config("photos", task="classify", **{name: value})


def test_warm_up_must_leave_room_for_the_rest():
    with pytest.raises(UserError, match=r"warmup_epochs must be less than the 3 epochs"):
        ClassifyConfig("photos", epochs=3, warmup_epochs=3)


def test_mixup_needs_an_even_batch():
    with pytest.raises(UserError, match=r"batch_size must be even, got 7"):
        ClassifyConfig("photos", mixup=0.2, batch_size=7)


def test_an_unknown_option_is_named_with_its_nearest():
    with pytest.raises(UserError, match=r"no option 'epoch'.*Did you mean 'epochs'"):
        make_config("photos", epoch=3)


def test_a_recipe_lies_under_the_given_options(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("lr: 1e-3\nepochs: 7\npretrained: true\n")
    config = make_config("photos", recipe, epochs=9)
    assert (config.lr, config.epochs, config.pretrained) == (1e-3, 9, True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epochs: ten\n", "mine.yaml: epochs must be a whole number, got 'ten'"),
        ("epoch: 10\n", "mine.yaml: there is no option 'epoch'.*'epochs'"),
        ("- 1\n- 2\n", "must hold lines of 'option: value', got a list"),
        ("a: b: c\n", "is not a YAML file of options"),
        ("5: 3\n", "no option 5"),
    ],
)
def test_a_bad_recipe_is_named(tmp_path, content, said):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(content)
    with pytest.raises(UserError, match=said):
        read_recipe(recipe)


def test_an_unknown_recipe_is_named_with_its_nearest():
    with pytest.raises(UserError, match=r"no recipe 'demmo'. Did you mean 'demo'"):
        read_recipe("demmo")


@pytest.mark.parametrize("name", recipe_names())
def test_the_recipes_that_come_with_the_package_hold_known_options_in_range(name):
    assert make_config("photos", name).to_dict().items() >= read_recipe(name).items()


@pytest.mark.parametrize("task", list(CONFIGS))
def test_a_config_comes_back_from_its_yaml(task):
    config = CONFIGS[task]("photos", lr=3e-5, select="last", devices=2)
    assert config_of(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config
