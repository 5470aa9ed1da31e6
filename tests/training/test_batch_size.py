"""The largest batch size that fits, on simulated GPUs and on this machine's CPU."""

import gc
import math

import pytest
import torch

from transxnet.runs.task_configs import ClassifyConfig, DetectConfig, SegmentConfig
from transxnet.training.batch_size import _saved_tensor_bytes, free_memory, largest_by_memory, largest_by_trial
from transxnet.training.make_plan import make_plan
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("fitting", "most", "expected"),
    [
        (100, 1000, 64),
        *(pytest.param(*row, marks=pytest.mark.long) for row in ((64, 1000, 64), (1000, 40, 32))),
        (3, 9, 2),
    ],
)
@pytest.mark.parametrize("full", ["error", "share"])
def test_batch_size_doubles_until_it_does_not_fit(fitting, most, expected, full):
    tried = []

    def step(size: int) -> bool:
        tried.append(size)
        if size > fitting and full == "error":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return size <= fitting

    assert largest_by_trial(step, most) == expected
    assert tried == [2**i for i in range(1, len(tried) + 1)]


def test_trial_raises_other_errors():
    def step(size: int) -> bool:
        raise RuntimeError("the sizes do not match")

    with pytest.raises(RuntimeError, match="do not match"):
        largest_by_trial(step, 8)


def test_error_names_remedies_if_two_images_do_not_fit():
    with pytest.raises(UserError, match=r"2 images does not fit into memory.*--grad-checkpointing"):
        largest_by_trial(lambda size: False, 8)
    with pytest.raises(UserError, match="does not fit into memory"):
        largest_by_memory(image=10, free=39, limit=8)


def test_cpu_batch_size_takes_half_of_the_free_memory():
    assert largest_by_memory(image=10, free=1e6, limit=32) == 32
    assert largest_by_memory(image=10, free=320, limit=32) == 16
    assert largest_by_memory(image=10, free=319, limit=32) == 8
    assert largest_by_memory(image=10, free=1e6, limit=12) == 8
    assert 0 < free_memory() < 1e15


def test_control_groups_bound_the_free_memory(tmp_path):
    assert free_memory(tmp_path) == math.inf  # as on systems other than Linux
    for name, content in {
        "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    8000 kB\n",
        "proc/self/cgroup": "1:name=systemd:/elsewhere\n0::/job/step\n",
        "sys/fs/cgroup/elsewhere/memory.max": "1",
        "sys/fs/cgroup/elsewhere/memory.current": "1",
        "sys/fs/cgroup/job/memory.max": "5000000\n",
        "sys/fs/cgroup/job/memory.current": "1000000\n",
        "sys/fs/cgroup/job/step/memory.max": "max\n",
        "sys/fs/cgroup/job/step/memory.current": "900000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert free_memory(tmp_path) == 4_000_000
    (tmp_path / "sys/fs/cgroup/job/step/memory.max").write_text("1000000\n")
    assert free_memory(tmp_path) == 100_000
    for name in ("job", "job/step"):
        (tmp_path / f"sys/fs/cgroup/{name}/memory.max").write_text("max\n")
    assert free_memory(tmp_path) == 8000 * 1024


def test_saved_bytes_grow_with_images_not_with_checkpointing(photos, quiet):
    kept = {}
    for checkpointing in (False, True):
        config = ClassifyConfig(
            str(photos), model="transxnet_n", img_size=32, grad_checkpointing=checkpointing, device="cpu"
        )
        plan = make_plan(config, quiet)
        before = {name: tensor.clone() for name, tensor in plan.model.state_dict().items()}
        kept[checkpointing] = _saved_tensor_bytes(plan, 2)
        assert all(torch.equal(before[name], tensor) for name, tensor in plan.model.state_dict().items())
        if not checkpointing:
            assert _saved_tensor_bytes(plan, 4) == pytest.approx(2 * kept[False], rel=0.2)
        gc.collect()
    assert kept[True] < kept[False] / 2


@pytest.mark.parametrize("kind", [DetectConfig, SegmentConfig])
def test_batch_size_auto_works_for_detect_and_segment(kind, squares, maps, quiet):
    size = {"min_size": 64} if kind is DetectConfig else {"crop": 32}
    data = squares if kind is DetectConfig else maps
    config = kind(str(data), model="test_resnet", batch_size="auto", device="cpu", val_fraction=0.4, **size)
    plan = make_plan(config, quiet)
    assert plan.config.batch_size in (2, 4, 8)
    assert any(choice.startswith(f"batch_size {plan.config.batch_size} (activations take ") for choice in plan.choices)
