"""Run trained models over images and datasets."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.detection_dataset import DetectionDataset, DetectionSet
from transxnet.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSet
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.loading.loaders import evaluation_loader, explain_worker_errors
from transxnet.heads.detector_transform import unit_range
from transxnet.heads.semantic_fpn import logits_at_size
from transxnet.metrics.detection import DetectionEvaluation, DetectionMetric, Detections
from transxnet.metrics.segmentation import SegmentationEvaluation, SegmentationMetric
from transxnet.metrics.targets import ClassifierEvaluation
from transxnet.runs.load import TrainedClassifier, TrainedDetector, TrainedModel, TrainedSegmenter
from transxnet.utils.device import prepare_for_inference, resolve_device

ClassifierOutput = tuple[Tensor, Tensor | None]
"""Logits (B, C), and pooled features (B, F) if requested, both float32 on the CPU."""

AnyEvaluation = ClassifierEvaluation | DetectionEvaluation | SegmentationEvaluation
"""The results of :func:`run_evaluation`."""


@explain_worker_errors()
def run_evaluation(
    trained: TrainedModel,
    images: ClassificationSet | Stream | DetectionSet | SegmentationSet,
    batch_size: int,
    workers: int,
    device: torch.device | None = None,
    progress: Callable[[int], Any] = lambda done: None,
) -> AnyEvaluation:
    """Run a trained model over labeled images and compute its metrics.

    Args:
        trained: a classifier, detector or segmenter; its network is moved to the device.
        images: images for the model's task, with its classes.
        batch_size: images per batch.
        workers: number of data loading processes.
        device: device for inference; by default the GPU if there is one.
        progress: called with the number of images done.
    """
    device = device or resolve_device()
    prepare_for_inference(trained.model, device)
    if isinstance(trained, TrainedDetector):
        assert isinstance(images, DetectionSet)
        detection = DetectionMetric(images, trained.masks)
        detection_data = DetectionDataset(images, masks=trained.masks)
        for batch, targets in _report(progress, evaluation_loader(detection_data, batch_size, workers)):
            detection.update(detect(trained.model, batch, device), targets)
        return detection.compute()
    if isinstance(trained, TrainedSegmenter):
        assert isinstance(images, SegmentationSet)
        segmentation = SegmentationMetric(images)
        dataset = SegmentationDataset(images, trained.resize)
        for batch, labels, _ in _report(progress, evaluation_loader(dataset, batch_size, workers)):
            for image, true in zip(batch, labels, strict=True):
                segmentation.update(segment(trained.model, image, true.shape, device), true.numpy())
        return segmentation.compute()
    assert isinstance(trained, TrainedClassifier) and isinstance(images, (ClassificationSet, Stream))
    loader = evaluation_loader(images.evaluation_dataset(trained.preprocessing.transform()), batch_size, workers)
    results = [
        (trained.targets.activate(classifier_outputs(trained.model, batch, device)[0]), labels, positions)
        for batch, labels, positions in _report(progress, loader)
    ]
    predicted, labels, positions = (torch.cat(parts).numpy() for parts in zip(*results, strict=True))
    if isinstance(images, ClassificationSet):
        names, weights = [images.name(i) for i in positions], images.own_weights
    else:
        names, weights = [str(i) for i in positions], None
    weights = None if weights is None else weights[positions]
    return trained.targets.evaluate(list(images.class_names), names, labels, predicted, weights)


def _report(progress: Callable[[int], Any], loader: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """Iterate over the batches of a loader; after each, call ``progress`` with the number of images done."""
    done = 0
    for batch in loader:
        yield batch
        done += len(batch[0])
        progress(done)


@torch.inference_mode()
def classifier_outputs(model: Any, images: Tensor, device: torch.device, features: bool = False) -> ClassifierOutput:
    """Logits of images (B, 3, S, S), with the pooled features before the classifier; the model is on the device."""
    images = images.to(device, memory_format=torch.channels_last)
    if not features:
        return model(images).float().cpu(), None
    feature_map = model.forward_features(images)
    logits, pooled = model.forward_head(feature_map), model.forward_head(feature_map, pre_logits=True)
    return logits.float().cpu(), pooled.float().cpu()


@torch.inference_mode()
def detect(model: nn.Module, images: Sequence[Tensor], device: torch.device) -> list[dict[str, Tensor]]:
    """A detector's outputs, on the CPU, for images (3, H, W) uint8; the model is on the device.

    One image at a time, since the masks of large images take much memory.
    """
    outputs = []
    for image in images:
        (output,) = model(unit_range([image.to(device)]))
        outputs.append({name: value.cpu() for name, value in output.items()})
    return outputs


def detect_image(trained: TrainedDetector, image: Tensor, device: torch.device) -> Detections:
    """The detections in one image (3, H, W) uint8; the model is on the device."""
    return Detections.from_output(detect(trained.model, [image], device)[0])


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
