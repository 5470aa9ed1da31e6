"""A module with user models, and one benchmark of three models."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from transxnet.benchmark.bench import bench
from transxnet.benchmark.benchmark_result import Benchmark, BenchmarkRow

MINE = """
import os

from torch import nn


def tiny(features_only=False, width=8):
    stages = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.GELU(), nn.Conv2d(width, width, 3, 2, 1))
    if features_only:
        return Stages(stages)
    return nn.Sequential(stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))


class Stages(nn.Module):
    def __init__(self, stages):
        super().__init__()
        self.stages = stages

    def forward(self, x):
        return [x := stage(x) for stage in self.stages]


def broken():
    raise ValueError("no such thing\\nand more")


def forgetful():
    return Forgetful()


class Forgetful(nn.Module):
    "Runs three times: to the end of a warm-up at most."

    def __init__(self):
        super().__init__()
        self.layer, self.left = nn.Conv2d(3, 4, 1), 3

    def forward(self, x):
        if x.device.type != "meta":
            self.left -= 1
        if self.left < 0:
            raise RuntimeError("forgot how")
        return self.layer(x)


def killed():
    os.kill(os.getpid(), 9)
"""


@contextmanager
def user_module(folder: Path) -> Iterator[None]:
    """Work in this folder, which holds a user's module, and use one thread in new processes."""
    (folder / "mine.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("here")
    with user_module(folder):
        yield folder


@pytest.fixture(scope="session")
def result_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="session")
def result(result_folder) -> Benchmark:
    """Two working models and one that fails; the files are in ``result_folder / "out"``."""
    names = ["mine:tiny@width=4", "transxnet_n@channels_last,reparameterize,bfloat16", "mine:forgetful"]
    with user_module(result_folder):
        output = result_folder / "out"
        return bench(names, img_size=32, batch_size=2, rounds=3, seconds=1e-4, profile=True, device="cpu", out=output)


@pytest.fixture
def asked(monkeypatch) -> list[BenchmarkRow]:
    """The rows that would be measured, without measuring them."""
    rows: list[BenchmarkRow] = []

    def pretend(given, *others):
        rows.extend(given)
        for row in given:
            row.milliseconds = [1.0]

    monkeypatch.setattr("transxnet.benchmark.bench.measure_interleaved", pretend)
    return rows
