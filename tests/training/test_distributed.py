"""Several processes train, evaluate and end together, and report the results of a single process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers import validating
from tests.helpers.class_folders import QUICK
from tests.helpers.dense_data import DETECT, SEGMENT
from transxnet.evaluation.evaluate import evaluate
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.training import distributed
from transxnet.training.train import train
from transxnet.utils.errors import UserError

TOGETHER = dict(
    QUICK, model="transxnet_n", opt="sgd", lr=0.02, warmup_epochs=0, ema_decay=0.9, drop_path_rate=0.0, smoothing=0.1,
    weight_decay=0.01, select="last", precision="32-true",
)  # fmt: skip
TOGETHER["epochs"] = 1
"""Options whose updates do not depend on how a batch is split; Adam would amplify rounding errors."""


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def spawn(*words: object, cwd: Path) -> None:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=environment(), cwd=cwd, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


def as_words(**options: object) -> list[str]:
    return [str(word) for name, value in options.items() for word in (f"--{name}", value)]


@pytest.fixture
def torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")


def test_launch_with_another_process_count_is_refused(torchrun):
    with pytest.raises(
        UserError, match=r"started 4 processes, but the options request 1\. Use --devices 2 --num-nodes 2"
    ):
        distributed.check_launch(1, has_folder=True)
    distributed.check_launch(4, has_folder=True)
    with pytest.raises(UserError, match=r"cannot choose a run folder automatically.*Pass the same --out FOLDER"):
        distributed.check_launch(4, has_folder=False)


def test_launch_is_checked_before_the_data_is_read(torchrun, tmp_path, quiet):
    with pytest.raises(UserError, match=r"started 4 processes, but the options request 1\."):
        train(tmp_path / "no such folder", out=tmp_path / "run", console=quiet, **QUICK, task="classify")


@pytest.mark.parametrize("processes", [1, 2])
def test_launch_without_torchrun_is_accepted(processes):
    distributed.check_launch(processes, has_folder=False)


@pytest.mark.parametrize(
    ("devices", "nodes", "count"),
    [("auto", 1, 1), (1, 1, 1), ("2", 3, 6), ("0,1", 1, 2), ("[0, 1, 2]", 1, 3), (-1, 1, 1)],
)
def test_processes_are_devices_times_nodes(devices, nodes, count):
    config = ClassifyConfig("photos", device="cpu", devices=devices, num_nodes=nodes)
    assert distributed.resolve_hardware(config) == distributed.Hardware("cpu", count)


@pytest.mark.parametrize(
    ("device", "cuda", "mps", "hardware"),
    [
        ("auto", 4, False, ("cuda", 4)),
        ("gpu", 4, False, ("cuda", 4)),
        ("cpu", 4, True, ("cpu", 1)),
        ("auto", 0, True, ("other", 1)),
        ("auto", 0, False, ("cpu", 1)),
        ("mps", 0, True, ("other", 1)),
    ],
)
def test_device_follows_option_and_machine(monkeypatch, device, cuda, mps, hardware):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    config = ClassifyConfig("photos", device=device)
    assert distributed.resolve_hardware(config) == distributed.Hardware(*hardware)


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_missing_gpu_is_an_error(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"no GPU found for device {device}. Leave out --device"):
        distributed.resolve_hardware(ClassifyConfig("photos", device=device))


@pytest.fixture(scope="module")
def alone(photos, quiet, tmp_path_factory) -> Run:
    """A training in one process with batch size 8; the validation set of 45 images has 9, an odd number."""
    return train(photos, out=tmp_path_factory.mktemp("alone") / "run", console=quiet, **TOGETHER)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize("launcher", ["lightning", pytest.param("torchrun", marks=pytest.mark.long)])
def test_sharded_batch_trains_like_the_whole_batch(alone, photos, tmp_path, count, launcher):
    options = {**TOGETHER, "batch_size": 8 // count, "devices": count, "strategy": "ddp", "out": "run"}
    run_module = ["-m", "transxnet", "train", photos, *as_words(**options)]
    if launcher == "torchrun":
        run_module = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}", *run_module]
    spawn(*run_module, cwd=tmp_path)
    run = Run(tmp_path / "run")
    for mine, theirs in zip(run.read_metrics(), alone.read_metrics(), strict=True):
        assert mine["step"] == theirs["step"]
        for name in mine.keys() - {"seconds"}:
            assert mine[name] == pytest.approx(theirs[name], abs=1e-4), name
    mine, theirs = load_file(run.weights_file), load_file(alone.weights_file)
    assert mine.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert (mine[name] - tensor).abs().max() < 1e-4, name  # includes the running statistics of BatchNorm
    results = json.loads(run.results_file.read_text())
    assert results["images"] == 9


@pytest.mark.long
@pytest.mark.parametrize("victim", [0, 1])
def test_killed_process_ends_the_training_with_a_message(photos, tmp_path, victim):
    """The wait is bounded: other processes notice at the next synchronization."""
    options = {**TOGETHER, "batch_size": 4, "devices": 2, "strategy": "ddp", "out": "run", "epochs": 1000}
    command = [sys.executable, "-m", "transxnet", "train", photos, *as_words(**options)]
    with (tmp_path / "output").open("w") as output:
        first = subprocess.Popen(command, env=environment(), cwd=tmp_path, stdout=output, stderr=output)
        pids = [first.pid]
        try:
            wait_for((tmp_path / "run" / "last.ckpt").is_file, 600)
            (second,) = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
            pids.append(int(second))
            os.kill(pids[victim], signal.SIGKILL)
            wait_for(lambda: not any(map(alive, pids)), 120)
            assert first.wait() != 0
        finally:
            for pid in pids:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
    text = (tmp_path / "output").read_text()
    assert "Resume with: transxnet train --resume run" in text
    if victim == 1:
        assert f"training process 1 (PID {pids[1]}) was killed by SIGKILL; training stops." in text
    else:
        assert "lost the connection to another training process" in text


def test_ended_process_is_named_after_a_connection_error(tmp_path, capsys, monkeypatch):
    """The error can end this process between two polls."""
    monkeypatch.setattr(distributed, "POLL_INTERVAL", 1.0)
    watch = distributed.ProcessWatch(Run(tmp_path / "run"))
    with subprocess.Popen(["sleep", "600"]) as started:
        trainer = trainer_of([started])
        watch.on_fit_start(trainer, None)
        started.kill()
        watch.on_exception(trainer, None, RuntimeError("gloo: Connection reset by peer"))
        assert f"training process 1 (PID {started.pid}) was killed by SIGKILL" in capsys.readouterr().err


def trainer_of(procs: list, world_size: int = 2) -> SimpleNamespace:
    strategy = SimpleNamespace(launcher=SimpleNamespace(procs=procs))
    return SimpleNamespace(strategy=strategy, world_size=world_size)


def test_watching_stops_after_an_error(tmp_path, capsys):
    watch = distributed.ProcessWatch(Run(tmp_path / "run"))
    with subprocess.Popen(["sleep", "600"]) as started:
        watch.on_fit_start(trainer_of([started]), None)
        (watcher,) = (thread for thread in threading.enumerate() if thread.name.endswith("(_watch)"))
        watch.on_exception(trainer_of([started]), None, ValueError("the loss is NaN"))
        watcher.join(20)
        started.kill()
    assert not watcher.is_alive()
    assert capsys.readouterr().err == ""


def test_second_training_watches_the_first_s_processes(tmp_path, capsys):
    with subprocess.Popen(["sleep", "600"]) as started:
        for procs in ([started], []):  # Lightning starts no processes if some are running
            watch = distributed.ProcessWatch(Run(tmp_path / "run"))
            watch.on_fit_start(trainer_of(procs), None)
            if procs:
                watch.teardown(trainer_of(procs), None, "fit")
        alone = distributed.ProcessWatch(Run(tmp_path / "other"))
        alone.on_fit_start(trainer_of([], world_size=1), None)
        started.kill()
        watch.on_exception(trainer_of([]), None, RuntimeError("gloo: Connection reset by peer"))
    output = capsys.readouterr().err
    assert output.count(f"training process 1 (PID {started.pid}) was killed by SIGKILL") == 1
    assert f"--resume {tmp_path}/run" in output


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Check whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.long
@pytest.mark.parametrize("kind", ["maps_run", "finding_run", "masks_run"])
def test_two_processes_validate_like_one(kind, request, squares, tmp_path, quiet):
    run: Run = request.getfixturevalue(kind)
    if kind == "masks_run":  # has only one validation image
        run = Run(Path(shutil.copytree(run.path, tmp_path / "run")))
        run.write_config(run.read_config().replace(data=str(squares)))
    out = tmp_path / "figures.json"
    spawn(validating.__file__, run.path, 2, out, cwd=tmp_path)
    figures = json.loads(out.read_text())
    assert figures == pytest.approx(validating.validate(run, 1), abs=1e-6)
    evaluation = evaluate(run.path, workers=0, console=quiet)
    assert len(evaluation) == 3
    main = "miou" if kind == "maps_run" else "ap50"
    assert figures[f"val_{main}"] == pytest.approx(evaluation.metrics()[main], abs=1e-6)
    assert kind == "masks_run" or figures[f"val_{main}"] > 0


@pytest.mark.long
@pytest.mark.parametrize("task", ["detect", "segment"])
def test_two_processes_evaluate_all_validation_images(task, squares, maps, tmp_path):
    data, options = (squares, DETECT) if task == "detect" else (maps, SEGMENT)
    options = {**options, "devices": 2, "strategy": "ddp", "batch_size": 1, "out": "run"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    spawn("-m", "transxnet", "train", data, *words, cwd=tmp_path)
    run = Run(tmp_path / "run")
    results = json.loads(run.results_file.read_text())
    assert results["images"] == 3
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == [3, 6]
    figure = "ap" if task == "detect" else "miou"
    assert results[figure] == pytest.approx(max(row[f"val_{figure}"] for row in rows), abs=1e-6)
