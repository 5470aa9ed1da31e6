import dataclasses

import pytest
import yaml

from transxnet.runs.config import TrainConfig
from transxnet.runs.task_configs import CONFIGS, ClassifyConfig, DetectConfig, config_from_dict
from transxnet.utils.errors import UserError


def test_every_option_has_one_help_topic():
    for config in CONFIGS.values():
        listed = [*(name for names in TrainConfig.TOPICS.values() for name in names), *config.OWN]
        assert sorted([*listed, "data"]) == sorted(field.name for field in dataclasses.fields(config))


def test_mixup_needs_an_even_batch_size():
    with pytest.raises(UserError, match=r"batch_size must be even for mixup and cutmix, got 7"):
        ClassifyConfig("photos", mixup=0.2, batch_size=7)


def test_unknown_option_error_suggests_the_nearest():
    with pytest.raises(UserError, match=r"unknown option 'epoch'.*Did you mean --epochs"):
        config_from_dict({"data": "photos", "epoch": 3})


def test_arguments_are_those_of_options_that_differ():
    config = DetectConfig("squares", out="run", model="transxnet_s", lr=0.5, pretrained=True, group_by_aspect=False)
    assert config.to_arguments() == [
        "--task", "detect", "--model", "transxnet_s", "--pretrained", "true", "--lr", "0.5",
        "--group-by-aspect", "false",
    ]  # fmt: skip
    assert ClassifyConfig("photos", lr=0.5, seed=3).to_arguments(exclude=["seed"]) == ["--lr", "0.5"]


@pytest.mark.parametrize("task", list(CONFIGS))
def test_config_round_trips_through_yaml(task):
    config = CONFIGS[task]("photos", lr=3e-5, select="last", devices=2)
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("options", "task"),
    [({"head": "maskrcnn"}, "detect"), ({"crop": 64}, "segment"), ({"crop": 64, "photometric": True}, "segment")],
)
def test_options_of_one_task_determine_the_task(options, task):
    assert config_from_dict({"data": "no such folder", **options}).task == task


def test_option_of_another_task_is_refused():
    with pytest.raises(UserError, match=r"--crop is for task 'segment', got task 'detect'"):
        config_from_dict({"data": "photos", "task": "detect", "crop": 64})


@pytest.mark.parametrize("options", [dict(class_weights="balanced"), dict(sampler="sqrt")], ids=str)
def test_classes_are_weighed_only_for_classes(options):
    with pytest.raises(UserError, match=r"is for classes, got targets multilabel. Remove --(class-weights|sampler)."):
        ClassifyConfig("photos", targets="multilabel", **options)
