"""Run a model on images: the interface, and the network of a run or of published weights."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from transxnet.data.loading.preprocessing import Preprocessing, Transform
from transxnet.data.reading.pixels import Pixels, open_pixels, pixels_to_tensor
from transxnet.data.tiling import Tiling
from transxnet.evaluation.flipped_outputs import merge_detections, merge_outputs
from transxnet.evaluation.inference import ClassifierOutput, classifier_outputs, detect, segmenter_logits
from transxnet.evaluation.tiled_detection import detect_tiles
from transxnet.evaluation.tiled_segmentation import tiled_logits
from transxnet.heads.detector_transform import float_images
from transxnet.metrics.detection import Detections
from transxnet.metrics.targets import CLASSES, Targets
from transxnet.runs.run_folder import Run
from transxnet.runs.trained_models import (
    TrainedClassifier,
    TrainedDetector,
    TrainedEncoder,
    TrainedModel,
    TrainedSegmenter,
)
from transxnet.utils.device import prepare_for_inference
from transxnet.utils.errors import UserError


class InferenceBackend(ABC):
    """Computes the outputs of one model.

    Attributes:
        name: name to show to the user.
        task: "classify", "detect" or "segment", or "pretrain" for a network without classes.
        class_names: K names by class index; for detectors label 1 is the first.
        category_ids: for detectors, the ids of the classes in COCO's results.
        preprocessing: from an image to the input of a network with pooled features; None for other tasks.
        targets: what a classifier's logits mean.
        has_features: whether it can return pooled features.
        masks: for detectors, whether it predicts masks in addition to boxes.
        device: device that the model runs on.
        tiling: for detectors and segmenters, the tiles to cut images into, or None.
        tta: merge the outputs of each image and of its horizontal flip (test-time augmentation).
        channels: number of channels that it reads, with their stored values; None for RGB.
        batches: whether prepared images of a classifier have one size and become batches.
    """

    name: str
    task: str
    class_names: list[str]
    category_ids: list[int]
    preprocessing: Preprocessing | None
    targets: Targets = CLASSES
    has_features: bool = False
    masks: bool = False
    device: torch.device
    tiling: Tiling | None = None
    tta: bool = False
    channels: int | None = None
    batches: bool = True

    @cached_property
    def prepare(self) -> Transform:
        """The transform from an image to a tensor for the methods below; it runs in data loading processes."""
        return pixels_to_tensor if self.preprocessing is None else self.preprocessing.transform()

    def read(self, source: str | Path | bytes) -> Pixels:
        """Decode an image file or its bytes for :attr:`prepare`; raises UnreadableImage."""
        return open_pixels(source, self.channels)

    @property
    @abstractmethod
    def transform(self) -> Transform:
        """The transform from an image to the input of the network or file."""

    @property
    @abstractmethod
    def run(self) -> Run | None:
        """The run of the model, or None."""

    @property
    @abstractmethod
    def input_size(self) -> str:
        """The size to which images are resized, in words."""

    @abstractmethod
    def weights_hash(self) -> str:
        """Read all weights and return their hash."""

    def start(self) -> None:
        """Move the model to its device; the first prediction does so too."""
        return

    @abstractmethod
    def classify(self, images: Tensor, features: bool = False) -> ClassifierOutput:
        """Classify prepared images (B, C, S, S)."""

    @abstractmethod
    def detect_whole(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the boxes, labels, scores and masks in an image or tile (C, H, W)."""

    @abstractmethod
    def segmenter_logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (K, H, W) of an image or tile (C, H, W)."""

    def with_tiling(self, tiling: Tiling) -> Self:
        """Return this backend with images cut into tiles; raises UserError for a classifier."""
        if self.task in ("classify", "pretrain"):
            raise UserError(f"tile is for detectors and segmenters, and {self.name} is not one. Remove --tile.")
        self.start()
        tiled = copy(self)
        tiled.tiling = tiling
        return tiled

    def with_tta(self) -> Self:
        """Return this backend with test-time augmentation."""
        self.start()
        augmented = copy(self)
        augmented.tta = True
        return augmented

    def predict(self, images: Tensor, features: bool = False) -> ClassifierOutput:
        """Return a classifier's probabilities or values (B, C) of prepared images (B, C, S, S), and their features."""
        logits, pooled = self.classify(images, features)
        outputs = self.targets.activate(logits)
        if self.tta:
            outputs = merge_outputs(outputs, self.targets.activate(self.classify(images.flip(-1))[0]))
        return outputs, pooled

    def detector_output(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the boxes, labels, scores and masks in an image (C, H, W)."""
        if self.tiling is None:
            return self._detect_part(pixels)
        return detect_tiles(self._detect_part, pixels, self.tiling).to_output(*pixels.shape[1:])

    def detect(self, pixels: Tensor) -> Detections:
        """Detect objects in an image (C, H, W)."""
        if self.tiling is None:
            return Detections.from_output(self._detect_part(pixels))
        return detect_tiles(self._detect_part, pixels, self.tiling)

    def _detect_part(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the objects in an image or tile (3, H, W) uint8, with test-time augmentation if it is on."""
        found = self.detect_whole(pixels)
        return merge_detections(found, self.detect_whole(pixels.flip(-1)), pixels.shape[-1]) if self.tta else found

    def segment(self, pixels: Tensor) -> np.ndarray:
        """Return the label map (H, W) uint8 of an image (C, H, W)."""
        strips: Iterable[Tensor]
        if self.tiling is None:
            strips = [self._segment_part(pixels)]
        else:
            strips = tiled_logits(self._segment_part, pixels, self.tiling)
        return np.concatenate([strip.argmax(0).to(torch.uint8).cpu().numpy() for strip in strips])

    def _segment_part(self, pixels: Tensor) -> Tensor:
        """Return the logits (K, H, W) of an image or tile; with test-time augmentation, mean probabilities."""
        logits = self.segmenter_logits(pixels)
        if not self.tta:
            return logits
        return merge_outputs(logits.softmax(0), self.segmenter_logits(pixels.flip(-1)).softmax(0).flip(-1))


class TrainedBackend(InferenceBackend):
    """The network of a run or of published weights.

    Args:
        trained: classifier, detector or segmenter; the first prediction moves its network to the device.
        device: device to compute on.
    """

    def __init__(self, trained: TrainedModel, device: torch.device):
        self.trained, self.device = trained, device
        self.name, self.task, self.class_names = trained.name, trained.task, trained.class_names
        self.preprocessing, self.tiling = None, trained.tiling
        self.channels = trained.backbone_preprocessing.channels
        if isinstance(trained, TrainedDetector):
            self.category_ids, self.masks = trained.category_ids, trained.masks
        if isinstance(trained, (TrainedClassifier, TrainedEncoder)):
            self.preprocessing, self.has_features = trained.preprocessing, True
        if isinstance(trained, TrainedClassifier):
            self.targets = trained.targets

    @property
    def transform(self) -> Transform:
        """From an image to the input of the network."""
        if self.preprocessing is not None:
            return self.prepare
        return _unnormalized(self.trained.resize if isinstance(self.trained, TrainedSegmenter) else None)

    @property
    def run(self) -> Run | None:
        """The run of the model, or None."""
        return self.trained.run

    @property
    def input_size(self) -> str:
        """The size to which images are resized, in words."""
        if isinstance(self.trained, TrainedDetector):
            transform = self.trained.model.transform
            return f"{transform.min_size[0]} to {transform.max_size} pixels"
        if isinstance(self.trained, TrainedSegmenter):
            return f"up to {self.trained.scale[0]}x{self.trained.scale[1]}"
        return square_size(self.preprocessing)

    def weights_hash(self) -> str:
        """Return the hash of the weights."""
        return hash_tensors(self.trained.model)

    @cached_property
    def _model(self) -> nn.Module:
        return prepare_for_inference(self.trained.model, self.device)

    def start(self) -> None:
        """Move the network to the device."""
        _ = self._model

    def classify(self, images: Tensor, features: bool = False) -> ClassifierOutput:
        """Classify prepared images (B, C, S, S)."""
        return classifier_outputs(self._model, images, self.device, features)

    def detect_whole(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the boxes, labels, scores and masks in an image or tile (C, H, W)."""
        return detect(self._model, pixels, self.device)

    def segmenter_logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (K, H, W) of an image or tile (C, H, W)."""
        assert isinstance(self.trained, TrainedSegmenter)
        self.start()
        return segmenter_logits(self.trained, pixels, self.device)


def hash_tensors(model: nn.Module) -> str:
    """Return the SHA-256 of the names and values of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def square_size(preprocessing: Preprocessing | None) -> str:
    """Return the size of a classifier's input in words."""
    assert preprocessing is not None
    return f"{preprocessing.img_size}x{preprocessing.img_size}"


def _unnormalized(resize: Callable[[Tensor], Tensor] | None) -> Transform:
    """Return the transform from an image to (C, H, W) float32, of RGB in 0 to 1, optionally resized."""

    def transform(image: Pixels) -> Tensor:
        pixels: Tensor = tv_tensors.Image(pixels_to_tensor(image))
        return float_images([pixels if resize is None else resize(pixels)])[0]

    return transform
