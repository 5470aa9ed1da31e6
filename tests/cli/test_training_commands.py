import functools
import re

import pytest
import yaml

from tests.helpers.command_line import invoke
from transxnet.cli import main
from transxnet.cli.command import load
from transxnet.runs import recipes
from transxnet.runs.config import TrainConfig
from transxnet.runs.recipes import Recipe, make_config
from transxnet.runs.task_configs import CONFIGS, config_from_dict


def test_help_of_train_has_topics_and_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help-all"])
    text = capsys.readouterr().out
    titles = {"classify": "classification only", "detect": "detection only", "segment": "segmentation only"}
    topics = {**TrainConfig.TOPICS, **{title: CONFIGS[task].OWN for task, title in titles.items()}}
    assert re.findall(r"^([a-z ]+):$", text, re.MULTILINE)[2:] == list(topics)
    listed: set[str] = set()
    for topic, names in topics.items():
        section = text.split(f"\n{topic}:\n")[1].split("\n\n")[0]
        shown = re.findall(r"^  --([\w-]+)", section, re.MULTILINE)
        # an option of two tasks is listed under the first
        own = [name for name in names if name not in listed]
        listed |= set(own)
        assert sorted(shown) == sorted(name.replace("_", "-") for name in own)
    joined = re.sub(r"\s+", " ", text)
    assert "cutmix, for classes (default: 0.0)" in joined
    assert "{best,last}" in joined
    assert "(default: 0.35)" in joined


def test_help_of_train_shows_the_values_of_a_recipe(capsys):
    values = recipes.read_recipe("demo").values
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--recipe", "demo", "--help"])
    assert f"(default: {values['model']})" in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_printed_config_is_a_recipe_for_the_same_config(here, capsys):
    _, first, _ = invoke(
        capsys, "train", "digits", "--recipe", "demo", "--lr", "3e-4", "--pretrained", "--print-config"
    )
    values = yaml.safe_load(first)
    assert (values["lr"], values["pretrained"], values["model"]) == (3e-4, True, "transxnet_n")
    (here / "mine.yaml").write_text(first)
    status, second, _ = invoke(capsys, "train", "--recipe=mine.yaml", "--print-config")
    assert (status, second) == (0, first)
    _, third, _ = invoke(capsys, "train", "--recipe", "mine.yaml", "--pretrained", "false", "--print-config")
    assert yaml.safe_load(third) == {**values, "pretrained": False}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--task detect --min-size 320", "min_size", 320),
        ("--task detect --head maskrcnn --skip-empty", "skip_empty", True),
        ("--task segment --zero-is-ignored --milestones 8,11", "zero_is_ignored", True),
    ],
)
def test_printed_config_of_a_dense_task_is_a_recipe_for_it(words, name, value, here, capsys):
    (here / "photos").mkdir()
    status, first, err = invoke(capsys, "train", "photos", *words.split(), "--print-config")
    assert (status, err) == (0, "")
    values = yaml.safe_load(first)
    assert values["task"] == words.split()[1]
    assert values[name] == value
    (here / "mine.yaml").write_text(first)
    assert invoke(capsys, "train", "--recipe", "mine.yaml", "--print-config")[:2] == (0, first)
    assert make_config("photos", "mine.yaml") == config_from_dict({"data": "photos", **values})
    status, _, err = invoke(capsys, "train", "photos", "--recipe", "mine.yaml", "--task", "classify")
    assert status == 2
    assert f"recipe mine.yaml is for task '{values['task']}', got task 'classify'" in err


@pytest.mark.parametrize(
    ("words", "function"),
    [
        ("train digits", "transxnet.training.train.train"),
        ("ablate table8 --data digits", "transxnet.ablation.ablate.ablate"),
    ],
)
def test_recipe_is_read_once_and_passed_on(words, function, monkeypatch, here):
    read, calls = [], []

    def read_yaml(path):
        read.append(path.name)
        return {"epochs": 3, "seed": 5}

    monkeypatch.setattr(recipes, "read_yaml", read_yaml)
    module, _, name = function.rpartition(".")
    record = functools.wraps(load(f"{module}:{name}"))(lambda *args, **options: calls.append((args, options)))
    monkeypatch.setattr(function, record)
    assert main([*words.split(), "--recipe", "demo", "--lr", "0.1"]) == 0
    ((args, options),) = calls
    assert args == (("digits",) if words.startswith("train") else ("table8", "digits"))
    assert isinstance(options["recipe"], Recipe)
    assert options["recipe"].values == {"task": "classify", "epochs": 3, "seed": 5}
    assert make_config("digits", options["recipe"]).seed == 5
    assert options["lr"] == 0.1
    assert "epochs" not in options
    assert read == ["demo.yaml"]


def test_resume_is_passed_alone(monkeypatch):
    calls = []
    monkeypatch.setattr("transxnet.training.train.train", lambda *args, **options: calls.append((args, options)))
    assert main(["train", "--resume", "runs/x"]) == 0
    assert calls == [((None,), {"resume": "runs/x"})]


def test_loss_of_a_segmenter_is_accepted(monkeypatch):
    calls = []
    monkeypatch.setattr("transxnet.training.train.train", lambda data, **options: calls.append(options["loss"]))
    main(["train", "scenes", "--task", "segment", "--loss", "dice"])
    assert calls == ["dice"]
