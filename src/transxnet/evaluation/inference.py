"""Running a trained model over images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from transxnet.data.dense_module import detection_loader, segmentation_loader
from transxnet.data.dense_transforms import AlignedResize
from transxnet.data.detection_set import DetectionSet
from transxnet.data.image_set import ImageSet
from transxnet.data.module import evaluation_loader
from transxnet.data.readers import Stream
from transxnet.data.segmentation_set import SegmentationSet
from transxnet.heads.semantic_fpn import logits_at_size
from transxnet.heads.transform import unit_range
from transxnet.metrics.classification import Evaluation
from transxnet.metrics.detection import DetectionEvaluation, DetectionScore, Found
from transxnet.metrics.segmentation import SegmentationEvaluation, SegmentationScore
from transxnet.runs.load import TrainedClassifier, TrainedDetector, TrainedModel, TrainedSegmenter
from transxnet.utils.device import default_device, placed

AnyEvaluation = Evaluation | DetectionEvaluation | SegmentationEvaluation
"""What :func:`judge` gives."""


@torch.inference_mode()
def probabilities(model: nn.Module, images: Tensor, device: torch.device) -> Tensor:
    """Softmax probabilities (B, C) float32 on the CPU of images (B, 3, S, S), by a model that is on the device."""
    return model(images.to(device, memory_format=torch.channels_last)).float().softmax(dim=1).cpu()


def judge(
    trained: TrainedModel,
    images: ImageSet | Stream | DetectionSet | SegmentationSet,
    batch_size: int,
    workers: int,
    device: torch.device | None = None,
    progress: Callable[[int], Any] = lambda done: None,
) -> AnyEvaluation:
    """What a trained model says about images whose truth is known, and how right it is.

    Args:
        trained: a classifier, detector or segmenter; its network is moved to the device.
        images: of the kind that it is for, with its classes.
        batch_size: images at once.
        workers: processes that decode.
        device: where to compute; by default the GPU if there is one.
        progress: called with the number of images done.
    """
    device = device or default_device()
    placed(trained.model, device)
    if isinstance(trained, TrainedDetector):
        assert isinstance(images, DetectionSet)
        return _judge_detector(trained, images, batch_size, workers, device, progress)
    if isinstance(trained, TrainedSegmenter):
        assert isinstance(images, SegmentationSet)
        return _judge_segmenter(trained, images, batch_size, workers, device, progress)
    assert isinstance(trained, TrainedClassifier) and isinstance(images, (ImageSet, Stream))
    return _judge_classifier(trained, images, batch_size, workers, device, progress)


@torch.inference_mode()
def detect(model: nn.Module, images: Sequence[Tensor], device: torch.device) -> list[dict[str, Tensor]]:
    """What a detector that is on the device finds in images (3, H, W) uint8; masks are on the CPU already.

    Masks of large images take much memory, so those of one image are made at a time.
    """
    answers = []
    for image in images:
        (answer,) = model(unit_range([image.to(device)]))
        answers.append({name: value.cpu() for name, value in answer.items()})
    return answers


@torch.inference_mode()
def segment(model: nn.Module, image: Tensor, size: Sequence[int], device: torch.device) -> np.ndarray:
    """The label map (H, W) uint8 of one image (3, h, w) uint8 that was resized for a segmenter on the device."""
    return logits_at_size(model, image.to(device), tuple(size)).argmax(1)[0].to(torch.uint8).cpu().numpy()


def detect_image(trained: TrainedDetector, image: Tensor, device: torch.device) -> Found:
    """The detections of one image (3, H, W) uint8, by a detector whose network is on the device."""
    return Found.of(detect(trained.model, [image], device)[0])


def segment_image(trained: TrainedSegmenter, image: Tensor, device: torch.device) -> np.ndarray:
    """The label map (H, W) uint8 of one image (3, H, W) uint8, by a segmenter whose network is on the device."""
    resized = AlignedResize(trained.scale)(tv_tensors.Image(image))
    return segment(trained.model, resized, image.shape[1:], device)


def _judge_detector(
    trained: TrainedDetector,
    images: DetectionSet,
    batch_size: int,
    workers: int,
    device: torch.device,
    progress: Callable[[int], Any],
) -> DetectionEvaluation:
    score, done = DetectionScore(images, trained.masks), 0
    for batch, targets in detection_loader(images, batch_size, workers, masks=trained.masks):
        score.update(detect(trained.model, batch, device), targets)
        done += len(batch)
        progress(done)
    return score.result()


def _judge_segmenter(
    trained: TrainedSegmenter,
    images: SegmentationSet,
    batch_size: int,
    workers: int,
    device: torch.device,
    progress: Callable[[int], Any],
) -> SegmentationEvaluation:
    score, done = SegmentationScore(images), 0
    for batch, labels, _ in segmentation_loader(images, AlignedResize(trained.scale), batch_size, workers):
        for image, truth in zip(batch, labels, strict=True):
            score.update(segment(trained.model, image, truth.shape, device), truth.numpy())
            done += 1
            progress(done)
    return score.result()


def _judge_classifier(
    trained: TrainedClassifier,
    images: ImageSet | Stream,
    batch_size: int,
    workers: int,
    device: torch.device,
    progress: Callable[[int], Any],
) -> Evaluation:
    results, done = [], 0
    for batch, labels, positions in evaluation_loader(images, trained.preprocessing.transform(), batch_size, workers):
        results.append((probabilities(trained.model, batch, device), labels, positions))
        done += len(batch)
        progress(done)
    predicted, labels, positions = (torch.cat(parts).numpy() for parts in zip(*results, strict=True))
    if isinstance(images, ImageSet):
        names, weights = [images.name(i) for i in positions], images.own_weights
    else:
        names, weights = [str(i) for i in positions], None
    return Evaluation(
        class_names=list(images.class_names),
        names=names,
        labels=labels,
        probabilities=predicted,
        weights=None if weights is None else weights[positions],
    )
