from collections.abc import Callable

import pytest
import torch
from torch import nn

from transxnet.utils.device import device_of_training, prepare_for_inference, resolve_device
from transxnet.utils.errors import UserError


@pytest.fixture
def machine(monkeypatch) -> Callable[[bool, bool], None]:
    """Pretend that this machine has a GPU of NVIDIA or of Apple."""

    def pretend(cuda: bool, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_gpu_if_there_is_one(machine, cuda, mps, device):
    machine(cuda, mps)
    assert resolve_device() == resolve_device("auto") == torch.device(device)


def test_devices_are_found_by_name_and_index(machine):
    machine(True, True)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    assert resolve_device("mps") == torch.device("mps")
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto", ("auto", "cpu")) == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_missing_gpu_is_an_error(machine, device):
    machine(False, False)
    with pytest.raises(UserError, match=rf"no GPU found for device {device}\. Leave out --device to run on the CPU"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["tpu", "cuda:x", ""])
def test_unknown_device_is_refused(machine, device):
    machine(True, True)
    with pytest.raises(UserError, match=r"device must be 'auto' or 'cpu' or 'cuda' or 'mps', got"):
        resolve_device(device)


def test_prepared_model_is_in_eval_mode_and_channels_last():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).train()
    prepared = prepare_for_inference(model, torch.device("cpu"))
    assert prepared is model
    assert not any(module.training for module in model.modules())
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_device_that_only_lightning_knows_becomes_auto():
    assert [device_of_training(name) for name in ("cpu", "cuda", "hpu")] == ["cpu", "cuda", "auto"]
