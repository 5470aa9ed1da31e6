import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.command_line import QUICK, invoke, spawn
from transxnet.cli import entry, main
from transxnet.cli.command import Command


def test_train_eval_predict_and_info_go_together(run, photos, here, capsys):
    assert invoke(capsys, "eval", run, "--workers", 0)[0] == 0
    status, out, err = invoke(capsys, "predict", run, photos / "dark", "--workers", 0, "--top-k", 1, "--out", "answers")
    assert (status, err) == (0, "")
    assert out.startswith("10 images predicted\n")
    assert "  answers/predictions.csv\n  answers/predictions.jsonl\n" in out
    status, out, _ = invoke(capsys, "info", "transxnet_t")
    assert status == 0
    for text in ("12,834,808", "1.75 G", "transxnet_t.in1k", "448", "7x7"):
        assert text in out
    assert main(["train", "--resume", str(run)]) == 0


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_commands_are_listed_without_a_command(words, capsys):
    status, out, _ = invoke(capsys, *words)
    assert status == 0
    assert all(f"transxnet {command}" in out for command in entry.COMMANDS)


def test_closed_output_is_no_error(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert main(["--version"]) == 0
    assert main(["nonsense"]) == 2


def test_version_is_printed(capsys):
    assert invoke(capsys, "--version")[1] == f"transxnet {entry.__version__}\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("trian photos", "unknown command 'trian'. Did you mean 'train' or 'pretrain'?"),
        ("train", "no training data given"),
        ("train nowhere", "'nowhere' is neither an existing folder nor a sample"),
        ("train 5", "'5' is neither an existing folder nor a sample"),
        (
            "train digit",
            "a sample (elpv, digits, scenes). Did you mean 'digits'?",
        ),
        ("train digits more", "unrecognized arguments: more."),
        ("train digits --epochs abc", "epochs must be an integer, got 'abc'."),
        ("train digits --epochs 2.5", "epochs must be an integer, got '2.5'."),
        ("train digits --epochs 0", "epochs must be an integer of at least 1, got 0."),
        ("train digits --batch-size abc", "--batch-size must be an integer or 'auto', got 'abc'."),
        ("train digits --lr fast", "lr must be a number, got 'fast'."),
        ("train digits --lr", "expected one argument"),
        ("train digits --select worst", "select must be 'best' or 'last', got 'worst'."),
        ("train digits --pretrained=maybe", "pretrained must be true or false, got 'maybe'."),
        ("train digits --epoch 3", "no option --epoch. Did you mean --epochs?"),
        ("train digits --data x", "DATA is given without an option name: transxnet train DATA"),
        ("train digits --recipe demmo", "unknown recipe 'demmo'. Did you mean 'demo'"),
        ("train digits --model transxnet_x", "unknown model 'transxnet_x'. Did you mean 'transxnet_"),
        ("train --resume nowhere", "nowhere is not a run folder"),
        ("train digits --resume runs/x --lr 3", "Remove digits, --lr."),
        ("train --resume runs/x --recipe demo", "and accepts no others but --epochs. Remove --recipe."),
        ("train digits --task detect", "digits is data for task 'classify', got task 'detect'"),
        ("train digits --task tetect", "task must be 'classify' or 'detect' or 'segment', got 'tetect'."),
        (
            "train digits --task classify --head maskrcnn",
            "--head is for task 'detect', got task 'classify'. Remove --head",
        ),
        ("eval", "missing: RUN."),
        ("eval nowhere", "run folder nowhere does not exist"),
        ("eval x --split", "expected one argument"),
        ("predict", "missing: RUN, IMAGE."),
        ("predict run", "missing: IMAGE."),
        ("predict run x --top-k many", "--top-k must be an integer, got 'many'."),
        ("info", "missing: MODEL."),
        ("info transxnet_x", "Did you mean 'transxnet_"),
        ("info transxnet_t --img-size 0", "img_size must be"),
        ("info transxnet_t --task tetect", "task must be 'classify' or 'detect' or 'segment', got 'tetect'."),
        ("info transxnet_t --head maskrcnn --img-size 64", "--task classify does not accept --head."),
        ("info transxnet_t --task detect --head fcos", "head must be 'retinanet' or 'maskrcnn', got 'fcos'."),
        ("info transxnet_t --task segment --img-size 512x", "size must be a side in pixels or HEIGHTxWIDTH"),
        ("bench", "no models given. Name models such as"),
        ("bench transxnet_x", "Did you mean 'transxnet_"),
        ("bench transxnet_t --mode fast", "mode must be 'infer' or 'train', got 'fast'."),
    ],
)
def test_user_errors_are_one_sentence_with_status_2(words, sentence, here, capsys):
    status, out, err = invoke(capsys, *words.split())
    assert status == 2
    assert err.startswith("error: ")
    assert sentence in err
    assert not re.search("Traceback|Parser key|<class|usage:", err)
    assert out == ""
    assert list(here.iterdir()) == []


def test_debug_raises_the_error(here):
    with pytest.raises(Exception, match="neither an existing folder nor a sample"):
        main(["train", "nowhere", "--debug"])


def test_unexpected_errors_name_their_place_with_status_1(here, capsys, monkeypatch):
    def surprise(command, words):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(Command, "run", surprise)
    status, _, err = invoke(capsys, "info", "x")
    assert status == 1
    assert re.fullmatch(
        r"error: ZeroDivisionError: by zero\n  in surprise, \S+test_entry.py:\d+. --debug shows the traceback.\n",
        err,
    )


def test_interruption_before_a_training_is_quiet(here, capsys, monkeypatch):
    def interrupted(command, words):
        raise KeyboardInterrupt

    monkeypatch.setattr(Command, "run", interrupted)
    assert invoke(capsys, "info", "x") == (130, "", "interrupted\n")


def test_redirected_output_has_no_control_codes_or_breaks(run, photos, here, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    deep = "/".join(["a-long-name"] * 12)
    status, out, err = invoke(capsys, "predict", run, photos, "--out", deep, "--workers", 0)
    assert status == 0
    assert f"  {deep}/predictions.jsonl\n" in out
    status, out, err = invoke(capsys, "eval", here / deep)
    assert len(err.splitlines()) == 1
    assert "\x1b" not in out + err


@pytest.mark.long
def test_file_name_that_is_not_text_is_printed(run, here):
    name = os.fsdecode(b"not-\xff-text.png")
    Path(name).write_bytes(b"no image")
    process = spawn("predict", run, name, "--workers", 0, cwd=here)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "none of the 1 images could be predicted" in err
    assert "Traceback" not in err


def interrupted(photos: Path, here: Path, send) -> str:
    """The output of an interrupted training with one loader worker."""
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
    """Signal the workers too, as a terminal and a cluster do."""
    return lambda pid: os.killpg(pid, number)


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(to_all(signal.SIGINT), id="Ctrl-C"),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), id="SIGTERM", marks=pytest.mark.long),
    ],
)
def test_interrupted_training_saves_and_says_how_to_resume(photos, here, send):
    assert re.fullmatch(
        r"interrupted: stopped (at step|after epoch) \d+, saved in my run/last.ckpt. "
        r"Resume with: transxnet train --resume 'my run'\n",
        interrupted(photos, here, send),
    )


@pytest.mark.long
def test_interrupted_workers_leave_a_run_to_resume(photos, here):
    output = interrupted(photos, here, to_all(signal.SIGTERM))
    assert re.match(r"interrupted: stopped .* Resume with: transxnet train --resume 'my run'\n", output)


@pytest.mark.long
def test_second_interrupt_stops_at_once(photos, here):
    process = spawn("train", photos, *QUICK, "--epochs", 1000, "--out", "run", cwd=here)
    for line in process.stdout:
        if line.startswith("epoch   1/"):
            break
    for _ in range(2):
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.001)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Resume with: transxnet train --resume run" in err
    assert "Traceback" not in err


@pytest.mark.long
def test_two_processes_evaluate_all_validation_images(photos, here):
    process = spawn(
        "train", photos, *QUICK, "--devices", 2, "--strategy", "ddp", "--epochs", 1, "--out", "run", cwd=here
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert '"images": 4' in (here / "run" / "results.json").read_text()
    assert len((here / "run" / "predictions.csv").read_text().splitlines()) == 5


@pytest.mark.long
def test_closed_pipe_is_no_error(here):
    process = spawn("info", "test_resnet", cwd=here)
    process.stdout.close()
    assert process.wait(timeout=120) in (1, 141)  # rich's status, or ours
    assert process.stderr.read() == ""
