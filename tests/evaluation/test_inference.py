"""Inference on single images and batches."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from transxnet.evaluation.inference import classifier_outputs, detect, segmenter_logits
from transxnet.runs.trained_models import TrainedSegmenter

CPU = torch.device("cpu")


class ChannelMeans(nn.Module):
    """Logits of three classes: the mean of each channel, in bfloat16."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)).bfloat16()


class BrightPixels(nn.Module):
    """A detector of one object: the whole image, scored by its highest value."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert len(images) == 1
        _, height, width = images[0].shape
        box = torch.tensor([[0.0, 0, width, height]])
        return [{"boxes": box, "labels": torch.ones(1, dtype=torch.long), "scores": images[0].max()[None]}]


class TwoHalves(nn.Module):
    """A segmenter at half resolution: class 2 where the red channel is above 0.5, else class 1."""

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, :1, ::2, ::2]
        return torch.cat([torch.full_like(red, -9), 0.5 - red, red - 0.5], dim=1)


def test_classifier_outputs_are_float32_logits():
    images = torch.rand(4, 3, 8, 8) * 5
    result, _ = classifier_outputs(ChannelMeans(), images, CPU)
    assert result.dtype == torch.float32 and not result.requires_grad
    expected = images.mean((2, 3)).bfloat16().float().numpy()
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)


def test_detect_passes_one_image_in_unit_range():
    for level, size in ((51, (4, 6)), (255, (9, 5))):
        result = detect(BrightPixels(), torch.full((3, *size), level, dtype=torch.uint8), CPU)
        assert result["boxes"].tolist() == [[0, 0, size[1], size[0]]]
        assert float(result["scores"]) == pytest.approx(level / 255, abs=1e-6)


def test_segmenter_logits_have_the_size_of_the_image():
    trained = TrainedSegmenter(TwoHalves(), "halves", ["a", "b", "c"], None, (128, 64))
    image = torch.zeros(3, 40, 80, dtype=torch.uint8)
    image[0, :, 40:] = 255
    logits = segmenter_logits(trained, image, CPU)
    assert logits.dtype == torch.float32 and logits.shape == (3, 40, 80)
    labels = logits.argmax(0)
    assert (labels[:, :36] == 1).all() and (labels[:, 44:] == 2).all()
