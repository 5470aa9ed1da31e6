import json
import subprocess
import sys

import pytest

from transxnet.experiments import training_worker as module
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import Interrupted, UserError


@pytest.mark.parametrize(
    ("error", "status", "end"),
    [
        (None, 0, ""),
        (UserError("no GPU found. Use --device cpu."), 1, "\nerror: no GPU found. Use --device cpu.\n"),
        (ValueError("wrong shape"), 1, "\nerror: ValueError: wrong shape\n"),
        (Interrupted("stopped at step 3."), 130, "stopped at step 3.\n"),
    ],
)
def test_status_and_last_line_tell_how_the_training_ended(error, status, end, monkeypatch, capsys, tmp_path):
    def train(run, options, console):
        assert (run, options) == (Run(tmp_path), {"lr": 0.1})
        if error is not None:
            raise error

    monkeypatch.setattr(module, "train_or_resume", train)
    assert module.main(json.dumps([str(tmp_path), {"lr": 0.1}])) == status
    assert capsys.readouterr().out.endswith(end)


@pytest.mark.long
def test_process_ends_with_the_one_that_started_it(tmp_path):
    job = json.dumps(
        [str(tmp_path / "run"), {"data": "digits", "model": "test_resnet", "device": "cpu", "epochs": 999}]
    )
    command = [sys.executable, "-m", module.__name__, job]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout
    while "epoch" not in process.stdout.readline():
        assert process.poll() is None
    process.stdin.close()
    process.stdout.read()
    assert process.wait(60) == 1
