"""Run trained models on images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from transxnet.heads.detector_transform import unit_range
from transxnet.heads.semantic_fpn import logits_at_size
from transxnet.runs.load import TrainedSegmenter

ClassifierOutput = tuple[Tensor, Tensor | None]
"""Logits (B, C), and pooled features (B, F) if requested, both float32 on the CPU."""


@torch.inference_mode()
def classifier_outputs(model: Any, images: Tensor, device: torch.device, features: bool = False) -> ClassifierOutput:
    """Logits of images (B, C, S, S), with the pooled features before the classifier; the model is on the device."""
    images = images.to(device, memory_format=torch.channels_last)
    if not features:
        return model(images).float().cpu(), None
    feature_map = model.forward_features(images)
    logits, pooled = model.forward_head(feature_map), model.forward_head(feature_map, pre_logits=True)
    return logits.float().cpu(), pooled.float().cpu()


@torch.inference_mode()
def detect(model: nn.Module, image: Tensor, device: torch.device) -> dict[str, Tensor]:
    """A detector's outputs, on the CPU, for one image (3, H, W) uint8; the model is on the device."""
    (output,) = model(unit_range([image.to(device)]))
    return {name: value.cpu() for name, value in output.items()}


def segment_image(trained: TrainedSegmenter, image: Tensor, device: torch.device) -> np.ndarray:
    """The label map (H, W) uint8 of one image (3, H, W) uint8; the model is on the device."""
    resized = trained.resize(tv_tensors.Image(image))
    return segment(trained.model, resized, image.shape[1:], device)


@torch.inference_mode()
def segment(model: nn.Module, image: Tensor, size: Sequence[int], device: torch.device) -> np.ndarray:
    """The label map, (H, W) = ``size`` uint8, of one image (3, h, w) uint8 that is resized for the model.

    The model is on the device.
    """
    return logits_at_size(model, image.to(device), tuple(size)).argmax(1)[0].to(torch.uint8).cpu().numpy()
