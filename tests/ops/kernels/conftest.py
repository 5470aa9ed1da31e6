"""Selects the Triton kernels: on a GPU if available, else in Triton's interpreter."""

import pytest
import torch
from torch import Tensor


@pytest.fixture(autouse=True)
def _kernels_in_poisoned_memory(monkeypatch):
    """Select the kernels, and fill uninitialized memory with NaN."""
    monkeypatch.setenv("TRANSXNET_OPS", "triton")
    empty, empty_strided = torch.empty, torch.empty_strided
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: _poison(empty(*args, **kwargs)))
    monkeypatch.setattr(torch, "empty_strided", lambda *args, **kwargs: _poison(empty_strided(*args, **kwargs)))


def _poison(t: Tensor) -> Tensor:
    return t.fill_(float("nan")) if t.is_floating_point() else t
