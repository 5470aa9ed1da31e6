"""When a training compiles its network by itself."""

from types import SimpleNamespace

import pytest
import torch

from transxnet.runs.task_configs import ClassifyConfig, SegmentConfig
from transxnet.training import compile_choice
from transxnet.training.compile_choice import choose_compile
from transxnet.training.distributed import Hardware


@pytest.fixture
def plan():
    config = ClassifyConfig("photos", batch_size=10, epochs=20)
    return SimpleNamespace(config=config, hardware=Hardware("cpu", 1), source=SimpleNamespace(train_items=range(2000)))


@pytest.fixture
def timed(monkeypatch):
    """Let steps take these seconds without and with compilation; return the measurements that are made."""
    asked = []

    def set_times(eager: float, compiled: float | Exception):
        def fake(plan, size, device, count, compile):
            asked.append((size, device, compile))
            seconds = compiled if compile else eager
            if isinstance(seconds, Exception):
                raise seconds
            return None, [(0.0, 100.0)] + [(0.0, seconds)] * (count - 1)

        monkeypatch.setattr(compile_choice, "run_steps", fake)
        return asked

    return set_times


@pytest.mark.parametrize(
    ("eager", "compiled", "chosen"),
    [
        (1.5, 1.0, (True, "measured: 1.50 times the speed")),
        (1.0, 0.95, (False, "measured: 1.05 times the speed")),
        (1.0, 2.0, (False, "measured: 0.50 times the speed")),
        (1.0, RuntimeError("no C++ compiler"), (False, "it failed: RuntimeError")),
    ],
)
def test_the_faster_network_is_used_in_long_trainings(plan, timed, eager, compiled, chosen):
    asked = timed(eager, compiled)
    assert choose_compile(plan) == chosen
    assert asked == [(10, torch.device("cpu"), False), (10, torch.device("cpu"), True)]


def test_trainings_of_less_than_an_hour_are_not_compiled(plan, timed):
    asked = timed(0.5, 0.1)
    assert choose_compile(plan) is None
    assert [compiled for _, _, compiled in asked] == [False]


@pytest.mark.parametrize(
    "changes",
    [
        {"hardware": Hardware("cuda", 1)},
        {"hardware": Hardware("cpu", 2)},
        {"config": ClassifyConfig("photos", batch_size=10, epochs=20, deterministic=True)},
        {"config": ClassifyConfig("photos", batch_size=10, epochs=2, cooldown_epochs=3)},
        {"config": SegmentConfig("maps", batch_size=10, epochs=20)},
    ],
)
def test_other_trainings_are_not_measured(plan, timed, changes):
    asked = timed(100.0, 1.0)
    assert choose_compile(SimpleNamespace(**(vars(plan) | changes))) is None
    assert asked == []
