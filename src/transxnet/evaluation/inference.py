"""Run trained models on images."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from transxnet.heads.detector_transform import float_images
from transxnet.heads.semantic_fpn import logits_at_size
from transxnet.runs.trained_models import TrainedSegmenter

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
    """A detector's outputs, on the CPU, for one image (C, H, W); the model is on the device."""
    (output,) = model(float_images([image.to(device)]))
    return {name: value.cpu() for name, value in output.items()}


@torch.inference_mode()
def segmenter_logits(trained: TrainedSegmenter, image: Tensor, device: torch.device) -> Tensor:
    """Logits (K, H, W) of one image (C, H, W); the model is on the device."""
    resized = trained.resize(tv_tensors.Image(image)).to(device)
    return logits_at_size(trained.model, resized, tuple(image.shape[1:]))[0]
