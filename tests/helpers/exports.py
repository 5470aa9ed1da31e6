"""Images for exported files, and the tolerance of their outputs."""

import torch
from torch import Tensor

CLASSES = ["ant", "bee", "cat"]
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


def random_images(count: int, *size: int) -> Tensor:
    """Images that differ, also in their mean values."""
    dice = torch.Generator().manual_seed(count)
    return torch.randn(count, 3, *size, generator=dice) + torch.randn(count, 3, 1, 1, generator=dice)


def assert_near(actual: Tensor, truth: Tensor, rel: float = 1e-4) -> None:
    """Compare relative to the largest value, as the export command does."""
    torch.testing.assert_close(actual, truth, rtol=0, atol=rel * truth.abs().max().item())
