import pytest
import torch
from torch import nn

from transxnet.utils.device import default_device, prepare_for_inference, resolve_device
from transxnet.utils.errors import UserError


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_default_device_is_the_gpu_if_any(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert default_device() == torch.device(device)


@pytest.mark.parametrize("cuda", [True, False])
def test_auto_resolves_to_the_available_device(monkeypatch, cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert resolve_device("auto") == ("cuda" if cuda else "cpu")
    assert resolve_device("cpu") == "cpu"
    if cuda:
        assert resolve_device("cuda") == "cuda"
        return
    with pytest.raises(UserError, match=r"found no CUDA device. Use --device cpu"):
        resolve_device("cuda")


def test_unknown_device_is_refused():
    with pytest.raises(UserError, match=r"device must be 'auto' or 'cpu' or 'cuda', got 'tpu'"):
        resolve_device("tpu")


def test_prepared_model_is_in_eval_mode_and_channels_last():
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)).train()
    prepared = prepare_for_inference(model, torch.device("cpu"))
    assert prepared is model
    assert not any(module.training for module in model.modules())
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
