"""Fixtures for the tests of the layers, the networks and their checkpoints."""

import gc
import os
from collections.abc import Callable, Iterator

import torch

# Set before Triton is imported: its interpreter runs the kernels on the CPU, slowly.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import pytest
from torch import Tensor, nn
from xdist.scheduler import LoadScopeScheduling

from tests.helpers import fill
from transxnet import TransXNet
from transxnet.metrics import intervals
from transxnet.utils.errors import command_line

pytest_plugins = ["tests.helpers.trained_runs"]

# Intervals of these many resamples are too rough to publish, and as good for tests.
intervals.RESAMPLES = 20

# No test cuts the power, so nothing has to wait for the disk.
os.fsync = lambda descriptor: None

# Trainings without --precision use float32 on every machine.
torch.cpu._is_amx_tile_supported = lambda: False

# Tests compute little; threads that wait for each other cost minutes on a busy machine.
torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> LoadScopeScheduling | None:
    """With ``--dist loadfile``, let one process also run all files of a folder that share costly fixtures."""
    return SharedFolders(config, log) if config.getvalue("dist") == "loadfile" else None


class SharedFolders(LoadScopeScheduling):
    """Distribute the tests by files, and those of some folders by folder."""

    folders = ("ablation", "benchmark", "checking", "deploy", "studies", "web")

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        folder = file.rpartition("/")[0]
        return folder if folder.rpartition("/")[2] in self.folders else file


def pytest_collection_finish() -> None:
    """Exempt imports and tests, a million objects, from garbage collection, which Lightning and PyTorch start often."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let libraries find their own objects again at exit."""
    gc.unfreeze()


def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> None:
    """Seed what several tests share: its random weights must not depend on the tests before."""
    if fixturedef.scope != "function":
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _options_in_messages() -> Iterator[None]:
    """Messages recommend options, as on the command line; tests/utils/test_errors.py is about messages in Python."""
    with command_line():
        yield


@pytest.fixture
def randomize() -> Callable[[nn.Module], nn.Module]:
    """Draw all weights and buffers at random, so that every part affects the output.

    LayerScale starts at 1e-5, the position bias and all biases at zero, and running statistics at identity; with
    these values most mistakes would go unnoticed.
    """

    @torch.no_grad()
    def fill_in(module: nn.Module) -> nn.Module:
        for name, tensor in module.state_dict().items():
            key = name.replace("pos_bias.weight", "relative_pos_enc")
            tensor.copy_(torch.as_tensor(fill.tensor(key, tuple(tensor.shape))))
        return module

    return fill_in


@pytest.fixture
def tiny(randomize) -> Callable[..., TransXNet]:
    """Make the smallest complete network, in float64 and eval mode, for 64x64 images with 3 channels."""

    def make(**kwargs) -> TransXNet:
        size = dict(depths=(1, 1, 1, 1), embed_dims=(16, 16, 32, 32), num_heads=(1, 1, 2, 2), img_size=64)
        return randomize(TransXNet(**{"num_classes": 5, **size, **kwargs})).double().eval()

    return make


@pytest.fixture
def images() -> Tensor:
    """Two 64x64 images in float64."""
    return torch.randn(2, 3, 64, 64, dtype=torch.float64)
