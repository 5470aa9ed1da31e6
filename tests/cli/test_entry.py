import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from transxnet.cli import entry, main
from transxnet.runs.config import TrainConfig
from transxnet.runs.recipes import make_config
from transxnet.runs.task_configs import CONFIGS, config_from_dict

QUICK = ["--model", "test_resnet", "--img_size", "32", "--batch_size", "4", "--workers", "0", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two classes of ten pictures, dark and light."""
    root = tmp_path_factory.mktemp("data") / "photos"
    noise = np.random.default_rng(0)
    for name, grey in (("dark", 60), ("light", 190)):
        (root / name).mkdir(parents=True)
        for i in range(10):
            pixels = (grey + noise.normal(0, 20, (24, 24, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory) -> Path:
    """A run, trained from the command line."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(photos), "--out", str(out), "--epochs", "1", *QUICK]) == 0
    return out


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys, *words: object) -> tuple[int, str, str]:
    status = main([str(word) for word in words])
    out, err = capsys.readouterr()
    return status, out, err


def spawn(*words: object, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "transxnet", *map(str, words)]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, env=environment, start_new_session=True, **pipes, **options)


def test_train_eval_predict_and_info_go_together(run, photos, here, capsys):
    assert said(capsys, "eval", run, "--workers", 0)[0] == 0
    status, out, err = said(capsys, "predict", run, photos / "dark", "--workers", 0, "--top-k", 1, "--out", "answers")
    assert (status, err) == (0, "")
    assert "10 images predicted\n  answers/predictions.csv\n  answers/predictions.jsonl\n" in out
    status, out, _ = said(capsys, "info", "transxnet_t")
    assert status == 0
    for text in ("12,834,808", "1.75 G", "transxnet_t.in1k", "448", "7x7"):
        assert text in out
    assert main(["train", "--resume", str(run)]) == 0


def test_info_shows_what_a_detector_or_segmenter_takes_part_by_part(capsys):
    status, out, err = said(capsys, "info", "transxnet_t", "--task", "detect", "--head", "retinanet")
    assert (status, err) == (0, "")
    for text in ("transxnet_t, RetinaNet, 80 classes", "22,439,812", "186.7 G", "at 800x1280", "feature pyramid"):
        assert text in out
    status, out, _ = said(capsys, "info", "transxnet_n", "--task", "segment", "--size", "64x96", "--num_classes", "3")
    assert status == 0
    assert "transxnet_n, Semantic FPN, 3 classes" in out
    assert "multiply-adds at 64x96 " in out


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_the_commands_are_shown(words, capsys):
    status, out, _ = said(capsys, *words)
    assert status == 0
    assert all(f"transxnet {command}" in out for command in entry.COMMANDS)


def test_the_version_is_shown(capsys):
    assert said(capsys, "--version")[1] == f"transxnet {entry.__version__}\n"


@pytest.mark.parametrize("command", list(entry.COMMANDS))
@pytest.mark.parametrize("width", ["80", "120"])
def test_help_says_what_each_option_does_without_types(command, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: transxnet {command} ")
    assert not re.search(r"type:|Union|null|<class|``|None", text)
    assert max(map(len, text.splitlines())) <= int(width)
    for option in re.findall(r"^  (--\w+.*)$", text, re.MULTILINE):
        after = text[text.index(option) + len(option.split("  ")[0]) :]
        assert re.match(r"\s+\w", after), f"{option} has no description"


def test_the_help_of_train_goes_by_topics_and_shows_the_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    text = capsys.readouterr().out
    topics = {**TrainConfig.TOPICS, **{f"only to {task}": config.OWN for task, config in CONFIGS.items()}}
    assert re.findall(r"^([a-z ]+):$", text, re.MULTILINE)[2:] == list(topics)
    for topic, names in topics.items():
        section = text.split(f"\n{topic}:\n")[1].split("\n\n")[0]
        shown = re.findall(r"^  --(\w+)", section, re.MULTILINE)
        # an option of two tasks stands under the first
        # an option of two tasks stands under the first
        own = [name for name in names if topic != "only to segment" or name not in CONFIGS["detect"].OWN]
        assert sorted(shown) == sorted(own)
    joined = re.sub(r"\s+", " ", text)
    assert "cutmix (default: 0.0)" in joined
    assert "{best,last}" in joined
    assert "(default: 0.35)" in joined


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("trian photos", "there is no command 'trian'. Did you mean 'train'?"),
        ("train", "name the data to train on"),
        ("train nowhere", "there is no folder and no sample 'nowhere'"),
        ("train 5", "there is no folder and no sample '5'"),
        ("train digit", "no sample 'digit'. Did you mean 'digits'"),
        ("train digits more", "unrecognized arguments: more."),
        ("train digits --epochs abc", "epochs must be a whole number, got 'abc'."),
        ("train digits --epochs 2.5", "epochs must be a whole number, got '2.5'."),
        ("train digits --epochs 0", "epochs must be a whole number of at least 1, got 0."),
        ("train digits --batch_size abc", "batch_size must be a whole number or 'auto', got 'abc'."),
        ("train digits --lr fast", "lr must be a number, got 'fast'."),
        ("train digits --lr", "expected one argument"),
        ("train digits --select worst", "select must be 'best' or 'last', got 'worst'."),
        ("train digits --pretrained=maybe", "pretrained must be true or false, got 'maybe'."),
        ("train digits --epoch 3", "no option '--epoch'. Did you mean '--epochs'"),
        ("train digits --data x", "has no option '--data'"),
        ("train digits --recipe demmo", "there is no recipe 'demmo'. Did you mean 'demo'"),
        ("train digits --model transxnet_x", "there is no model 'transxnet_x'. Did you mean 'transxnet_"),
        ("train --resume nowhere", "nowhere is not a run folder"),
        ("train digits --resume runs/x --epochs 3", "leave out --epochs, digits."),
        ("train --resume runs/x --recipe demo", "leave out"),
        ("train digits --task detect", "digits is not for the task 'detect' but for 'classify'"),
        ("train digits --task tetect", "task must be 'classify' or 'detect' or 'segment', got 'tetect'."),
        ("train digits --task classify --head maskrcnn", "the option 'head' is for the task 'detect', and the task is"),
        ("eval", "missing: RUN."),
        ("eval nowhere", "there is no run folder nowhere"),
        ("eval x --split", "expected one argument"),
        ("predict", "missing: RUN, IMAGE."),
        ("predict run", "missing: IMAGE."),
        ("predict run x --top_k many", "top_k must be a whole number, got 'many'."),
        ("info", "missing: MODEL."),
        ("info transxnet_x", "Did you mean 'transxnet_"),
        ("info transxnet_t --img_size 0", "img_size must be"),
        ("info transxnet_t --task tetect", "task must be 'classify' or 'detect' or 'segment', got 'tetect'."),
        ("info transxnet_t --task detect --img_size 64", "--img_size does not go with --task detect."),
        ("info transxnet_t --head maskrcnn --size 64", "--head, --size does not go with --task classify."),
        ("info transxnet_t --task detect --head fcos", "head must be 'retinanet' or 'maskrcnn', got 'fcos'."),
        ("info transxnet_t --task segment --size 512x", "size must be a side in pixels or HEIGHTxWIDTH"),
        ("bench", "name the models to measure, such as"),
        ("bench transxnet_x", "Did you mean 'transxnet_"),
        ("bench transxnet_t --mode fast", "mode must be 'infer' or 'train', got 'fast'."),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_with_status_2(words, sentence, here, capsys):
    status, out, err = said(capsys, *words.split())
    assert status == 2
    assert err.startswith("error: ")
    assert sentence in err
    assert not re.search("Traceback|Parser key|<class|usage:", err)
    assert out == ""
    assert list(here.iterdir()) == []


def test_debug_shows_where_an_error_comes_from(here):
    with pytest.raises(Exception, match="no folder and no sample"):
        main(["train", "nowhere", "--debug"])


def test_what_nobody_thought_of_is_named_with_its_place_and_status_1(here, capsys, monkeypatch):
    def surprise(words):
        raise ZeroDivisionError("by zero")

    monkeypatch.setitem(entry.COMMANDS, "info", surprise)
    status, _, err = said(capsys, "info", "x")
    assert status == 1
    assert re.fullmatch(
        r"error: ZeroDivisionError: by zero\n  in surprise, \S+test_cli.py:\d+. See the whole way with --debug.\n", err
    )


def test_an_interruption_before_the_training_is_quiet(here, capsys, monkeypatch):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setitem(entry.COMMANDS, "info", interrupted)
    assert said(capsys, "info", "x") == (130, "", "interrupted\n")


def test_the_printed_config_is_a_recipe_that_gives_itself_again(here, capsys):
    _, first, _ = said(capsys, "train", "digits", "--recipe", "demo", "--lr", "3e-4", "--pretrained", "--print_config")
    values = yaml.safe_load(first)
    assert (values["lr"], values["pretrained"], values["model"]) == (3e-4, True, "transxnet_n")
    (here / "mine.yaml").write_text(first)
    status, second, _ = said(capsys, "train", "--recipe=mine.yaml", "--print-config")
    assert (status, second) == (0, first)
    _, third, _ = said(capsys, "train", "--recipe", "mine.yaml", "--pretrained", "false", "--print_config")
    assert yaml.safe_load(third) == {**values, "pretrained": False}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--task detect --min_size 320", "min_size", 320),
        ("--task detect --head maskrcnn --skip-empty", "skip_empty", True),
        ("--task segment --zero_is_ignored --milestones 8,11", "zero_is_ignored", True),
    ],
)
def test_the_printed_config_of_another_task_is_a_recipe_for_it(words, name, value, here, capsys):
    (here / "photos").mkdir()
    status, first, err = said(capsys, "train", "photos", *words.split(), "--print_config")
    assert (status, err) == (0, "")
    values = yaml.safe_load(first)
    assert values["task"] == words.split()[1]
    assert values[name] == value
    (here / "mine.yaml").write_text(first)
    assert said(capsys, "train", "--recipe", "mine.yaml", "--print_config")[:2] == (0, first)
    assert make_config("photos", "mine.yaml") == config_from_dict({"data": "photos", **values})
    status, _, err = said(capsys, "train", "photos", "--recipe", "mine.yaml", "--task", "classify")
    assert status == 2
    assert f"the recipe mine.yaml is for the task '{values['task']}', and the task to train is 'classify'" in err


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("--batch-size 8", "batch_size", 8),
        ("--batch_size=8", "batch_size", 8),
        ("--batch_size auto", "batch_size", "auto"),
        ("--deterministic --lr 1", "deterministic", True),
        ("--lr 1e-3", "lr", 1e-3),
        ("--compile", "compile", True),
        ("--compile true", "compile", True),
        ("--compile=false", "compile", False),
        ("--out 5", "out", "5"),
        ("--out 1e3", "out", "1e3"),
        ("--out null", "out", None),
        ("--checkpoint a-b/c-d", "checkpoint", "a-b/c-d"),
        ("--devices 2", "devices", "2"),
        ("--devices 0,1", "devices", "0,1"),
    ],
)
def test_options_are_read_as_they_were_meant(words, name, value, here, capsys):
    status, out, _ = said(capsys, "train", "digits", *words.split(), "--print_config")
    assert status == 0
    assert getattr(config_from_dict({"data": "", **yaml.safe_load(out)}), name) == value


def test_a_flag_does_not_swallow_what_follows_it(run, photos, here, capsys):
    assert main(["predict", "--workers", "0", "--overwrite", str(run), str(photos / "dark" / "0.png")]) == 0
    assert main(["predict", str(run), str(photos / "dark" / "0.png"), "--workers", "0", "--overwrite"]) == 0
    assert main(["predict", str(run), str(photos / "dark" / "0.png"), "--workers", "0"]) == 2


def test_after_two_dashes_everything_is_a_file(run, photos, here, capsys):
    (here / "--my-photo.png").write_bytes((photos / "dark" / "0.png").read_bytes())
    assert main(["predict", "--workers", "0", str(run), "--", "--my-photo.png"]) == 0
    assert "--my-photo.png" in (here / "predictions" / "predictions.csv").read_text()


def test_output_that_is_no_terminal_holds_no_control_codes_and_no_broken_line(run, photos, here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    deep = "/".join(["a-long-name"] * 12)
    status, out, err = said(capsys, "predict", run, photos, "--out", deep, "--workers", 0)
    assert status == 0
    assert f"  {deep}/predictions.jsonl\n" in out
    status, out, err = said(capsys, "eval", here / deep)
    assert len(err.splitlines()) == 1
    assert "\x1b" not in out + err


def test_a_name_that_is_not_text_can_be_said(run, here):
    name = os.fsdecode(b"not-\xff-text.png")
    Path(name).write_bytes(b"no image")
    process = spawn("predict", run, name, "--workers", 0, cwd=here)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "none of the 1 images could be read" in err
    assert "Traceback" not in err


def interrupted(photos: Path, here: Path, send) -> str:
    """What a training with a worker says when it is interrupted."""
    words = [*QUICK, "--workers", 1, "--epochs", 1000, "--out", "my run"]
    process = spawn("train", photos, *words, cwd=here)
    for line in process.stdout:
        if line.startswith("epoch   2/"):
            break
    send(process.pid)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (here / "my run" / "last.ckpt").is_file()
    return err


def to_all(number: int):
    """As a terminal and a cluster do: the workers get the signal too."""
    return lambda pid: os.killpg(pid, number)


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(to_all(signal.SIGINT), id="Ctrl-C"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), id="SIGTERM", marks=pytest.mark.long),
    ],
)
def test_an_interrupted_training_saves_and_says_how_to_go_on(photos, here, send):
    assert re.fullmatch(
        r"error: stopped (at step|after epoch) \d+, saved in my run/last.ckpt. "
        r"Go on with: transxnet train --resume 'my run'\n",
        interrupted(photos, here, send),
    )


@pytest.mark.long
def test_where_the_workers_are_ended_too_the_run_can_be_gone_on_with(photos, here):
    said = interrupted(photos, here, to_all(signal.SIGTERM))
    assert re.match(r"error: stopped .* Go on with: transxnet train --resume 'my run'\n", said)


@pytest.mark.long
def test_a_second_ctrl_c_stops_at_once(photos, here):
    process = spawn("train", photos, *QUICK, "--epochs", 1000, "--out", "run", cwd=here)
    for line in process.stdout:
        if line.startswith("epoch   1/"):
            break
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.001)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Go on with: transxnet train --resume run" in err
    assert "Traceback" not in err


@pytest.mark.long
def test_two_processes_evaluate_all_of_the_held_out_images(photos, here):
    process = spawn(
        "train", photos, *QUICK, "--devices", 2, "--strategy", "ddp", "--epochs", 1, "--out", "run", cwd=here
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert '"images": 4' in (here / "run" / "results.json").read_text()
    assert len((here / "run" / "predictions.csv").read_text().splitlines()) == 5


def test_a_reader_that_goes_away_is_no_error(here):
    process = spawn("info", "test_resnet", cwd=here)
    process.stdout.close()
    assert process.wait(timeout=120) in (1, 141)  # rich's status, or ours
    assert process.stderr.read() == ""
