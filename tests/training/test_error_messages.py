import threading

import pytest
import torch

from tests.helpers.class_folders import QUICK
from tests.helpers.dense_data import DETECT, SEGMENT
from transxnet.runs.run_folder import Run
from transxnet.runs.task_configs import ClassifyConfig, DetectConfig
from transxnet.training.classifier import Classifier
from transxnet.training.error_messages import describe_training_error, ignore_stored_thread_errors
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
def test_out_of_memory_error_names_remedies(photos, tmp_path, quiet, monkeypatch, error):
    def losses(self, batch):
        raise error

    monkeypatch.setattr(Classifier, "losses", losses)
    with pytest.raises(UserError) as caught:
        train(photos, out=tmp_path / "run", console=quiet, **QUICK)
    text = str(caught.value)
    assert "Out of memory at batch_size 8. Options that reduce memory: --grad-checkpointing recomputes" in text
    assert "(or --checkpointed-stages 2" not in text  # only our networks support this option
    assert "--batch-size 4 --accumulate 2 computes the same updates" in text
    assert "--precision bf16-mixed" in text
    assert "a smaller --img-size than 32" in text


def advice(config: ClassifyConfig | DetectConfig) -> str:
    return str(describe_training_error(MemoryError(), config))


def test_memory_advice_skips_what_is_in_use():
    text = advice(config(grad_checkpointing=True, precision="bf16-mixed", batch_size=2, accumulate=3))
    assert "grad_checkpointing" not in text and "precision" not in text and "--batch-size" not in text
    assert "--batch-size 2 --accumulate 6" in advice(config(batch_size=4, accumulate=3))
    assert "(or --checkpointed-stages 2" in advice(config(model="transxnet_n"))
    text = advice(config(model="transxnet_n", checkpointed_stages=2))
    assert "--grad-checkpointing" in text and "checkpointed_stages" not in text
    for mixed in ({"mixup": 0.2}, {"cutmix": 1.0}):  # both mix pairs of images in a batch
        assert "--batch-size" not in advice(config(batch_size=50, **mixed))
        assert "--batch-size 26 --acc" in advice(config(batch_size=52, **mixed))
    assert "--batch-size" not in advice(config(batch_size=9))  # two batches of four are not nine
    detect = DetectConfig("coco", batch_size=4, precision="32-true", min_size=800)
    assert "a smaller --min-size than 800" in advice(detect)


def test_lost_process_error_names_the_resume_command(tmp_path):
    error = RuntimeError("[../gloo/transport/tcp/pair.cc:544] Connection closed by peer [127.0.0.1]:1")
    run = Run(tmp_path / "run")
    text = str(describe_training_error(error, config(), run, processes=2))
    assert "lost the connection to another training process" in text
    assert f"transxnet train --resume {tmp_path}/run" in text
    assert describe_training_error(error, config(), run, processes=1) is None
    assert describe_training_error(RuntimeError("mat1 and mat2 shapes"), config(), run, processes=2) is None


ONE_IMAGE = {
    "photos": QUICK,
    "squares": {**DETECT, "min_size": 32},
    "maps": SEGMENT,
}


@pytest.mark.parametrize(
    "data", ["photos", *(pytest.param(data, marks=pytest.mark.long) for data in ("squares", "maps"))]
)
def test_batch_size_one_error_names_options_that_work(data, request, tmp_path, quiet):
    """IDConv normalizes a 1x1 map over the batch."""
    data, options = request.getfixturevalue(data), {**ONE_IMAGE[data], "model": "transxnet_n", "epochs": 1, "limit": 2}
    with pytest.raises(
        UserError,
        match=r"more than one value per channel .*got batch_size 1.*Use --batch-size 2, .*or --freeze backbone",
    ):
        train(data, out=tmp_path / "run", console=quiet, **options | {"batch_size": 1})
    for name, remedy in {
        "two": {"batch_size": 2, "grad_checkpointing": True},
        "frozen": {"batch_size": 1, "freeze": "backbone"},
    }.items():
        run = train(data, out=tmp_path / name, console=quiet, **options | remedy)
        assert run.read_metrics()[0]["train_loss"] > 0


@pytest.mark.parametrize(
    "data", ["photos", *(pytest.param(data, marks=pytest.mark.long) for data in ("squares", "maps"))]
)
def test_incomplete_last_batch_of_one_image_is_dropped(data, request, tmp_path, quiet):
    options = {**ONE_IMAGE[data], "model": "transxnet_n", "epochs": 1, "limit": 3, "batch_size": 2}
    run = train(request.getfixturevalue(data), out=tmp_path / "run", console=quiet, **options)
    assert run.read_metrics()[0]["step"] == 1


@pytest.mark.parametrize("kept", [True, False])
def test_stored_thread_errors_are_not_printed(monkeypatch, kept):
    printed = []
    monkeypatch.setattr(threading, "excepthook", lambda args: printed.append(args.exc_value))

    class Writer(threading.Thread):
        exception = None

        def run(self):
            error = OSError("the disk is gone")
            self.exception = error if kept else None
            raise error

    with ignore_stored_thread_errors():
        writer = Writer()
        writer.start()
        writer.join()
    assert len(printed) == (0 if kept else 1)
