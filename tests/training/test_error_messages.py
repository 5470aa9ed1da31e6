"""Errors of the hardware during a training, as what can be done about them."""

import threading

import pytest
import torch

from tests.helpers.class_folders import QUICK
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig, DetectConfig
from transxnet.training.classifier import Classifier
from transxnet.training.defaults import processes
from transxnet.training.distributed import check_launch
from transxnet.training.error_messages import explained, said_once
from transxnet.training.train import train
from transxnet.utils.errors import UserError


def config(**options) -> ClassifyConfig:
    return ClassifyConfig("photos", **{"batch_size": 64, "precision": "32-true", "img_size": 224, **options})


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
    ids=["gpu", "cpu", "numpy"],
)
def test_memory_that_is_not_enough_says_what_would_help(photos, tmp_path, quiet, monkeypatch, error):
    def losses(self, batch):
        raise error

    monkeypatch.setattr(Classifier, "losses", losses)
    with pytest.raises(UserError) as caught:
        train(photos, out=tmp_path / "run", console=quiet, **QUICK)
    text = str(caught.value)
    assert "The memory is not enough for batch_size 8. What helps: --grad_checkpointing computes" in text
    assert "(--checkpointed_stages 2 in its place" not in text  # which only our networks know
    assert "--batch_size 4 --accumulate 2 makes the same updates" in text
    assert "--precision bf16-mixed" in text
    assert "a smaller --img_size than 32" in text


def test_what_is_in_use_already_is_not_advised(tmp_path):
    run = Run(tmp_path)
    used = config(grad_checkpointing=True, precision="bf16-mixed", batch_size=2, accumulate=3)
    text = str(explained(MemoryError(), used, run))
    assert "grad_checkpointing" not in text and "precision" not in text and "--batch_size" not in text
    assert "--batch_size 2 --accumulate 6" in str(explained(MemoryError(), config(batch_size=4, accumulate=3), run))
    ours, some = dict(model="transxnet_n"), dict(model="transxnet_n", checkpointed_stages=2)
    assert "(--checkpointed_stages 2 in its place" in str(explained(MemoryError(), config(**ours), run))
    text = str(explained(MemoryError(), config(**some), run))
    assert "--grad_checkpointing" in text and "checkpointed_stages" not in text
    for mixed in ({"mixup": 0.2}, {"cutmix": 1.0}):  # they pair the images of a batch
        assert "--batch_size" not in str(explained(MemoryError(), config(batch_size=50, **mixed), run))
        assert "--batch_size 26 --acc" in str(explained(MemoryError(), config(batch_size=52, **mixed), run))
    assert "--batch_size" not in str(explained(MemoryError(), config(batch_size=9), run))  # two fours are no nine
    detect = DetectConfig("coco", batch_size=4, precision="32-true", min_size=800)
    assert "a smaller --min_size than 800" in str(explained(MemoryError(), detect, run))


def test_a_process_that_is_lost_is_said_with_the_way_on(tmp_path):
    error = RuntimeError("[../gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:1")
    run = Run(tmp_path / "run")
    text = str(explained(error, config(devices=2, accelerator="cpu"), run))
    assert "one of the processes does not answer any more" in text
    assert f"transxnet train --resume {tmp_path}/run" in text
    assert explained(error, config(accelerator="cpu"), run) is None  # a single process has nobody to lose
    assert explained(RuntimeError("mat1 and mat2 shapes"), config(devices=2, accelerator="cpu"), run) is None


def test_a_batch_of_one_is_refused_with_a_way_on(photos, tmp_path, quiet):
    """IDConv normalises a 1x1 map over the batch."""
    options = {**QUICK, "model": "transxnet_n", "batch_size": 1}
    with pytest.raises(UserError, match=r"single value a channel in batches of 1.*Give --batch_size 2 or more"):
        train(photos, out=tmp_path / "run", console=quiet, **options)


@pytest.fixture
def torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")


def test_processes_that_the_options_do_not_speak_of_are_refused(torchrun, tmp_path):
    with pytest.raises(
        UserError, match=r"started 4 processes, and the options ask for 1\. Give --devices 2 --num_nodes 2"
    ):
        check_launch(config(accelerator="cpu"), tmp_path)
    together = config(accelerator="cpu", devices=2, num_nodes=2)
    assert processes(together) == 4
    check_launch(together, tmp_path)
    with pytest.raises(UserError, match=r"can't agree on a new folder.*Give --out FOLDER"):
        check_launch(together, None)


def test_alone_nothing_is_refused():
    check_launch(config(accelerator="cpu"), None)
    check_launch(config(accelerator="cpu", devices=2), None)


@pytest.mark.parametrize("kept", [True, False])
def test_an_error_that_a_thread_keeps_for_the_next_who_speaks_to_it_is_not_printed(monkeypatch, kept):
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(args.exc_value))

    class Writer(threading.Thread):
        exception = None

        def run(self):
            error = OSError("the disk is gone")
            self.exception = error if kept else None
            raise error

    with said_once():
        writer = Writer()
        writer.start()
        writer.join()
    assert len(printed) == (0 if kept else 1)
