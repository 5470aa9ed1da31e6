"""Run a model on images: the network of a run or of published weights, or an exported file."""

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
from transxnet.data.tiling import Tiling, read_tiling
from transxnet.deploy.exported_model import ExportedModel, fit_for_detector, fit_for_segmenter, load_exported
from transxnet.deploy.format_registry import find_format, is_exported
from transxnet.evaluation.flipped_outputs import merge_detections, merge_outputs
from transxnet.evaluation.inference import ClassifierOutput, classifier_outputs, detect, segmenter_logits
from transxnet.evaluation.tiled_detection import detect_tiles
from transxnet.evaluation.tiled_segmentation import tiled_logits
from transxnet.heads.detector_transform import float_images
from transxnet.metrics.detection import Detections
from transxnet.metrics.targets import CLASSES, Targets
from transxnet.runs.load import load_model
from transxnet.runs.run_folder import Run
from transxnet.runs.trained_models import (
    TrainedClassifier,
    TrainedDetector,
    TrainedEncoder,
    TrainedModel,
    TrainedSegmenter,
)
from transxnet.utils.device import prepare_for_inference, resolve_device
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
        self.name, self.class_names = trained.name, trained.class_names
        self.preprocessing, self.tiling = None, trained.tiling
        self.channels = trained.backbone_preprocessing.channels
        if isinstance(trained, TrainedDetector):
            self.task, self.category_ids, self.masks = "detect", trained.category_ids, trained.masks
        elif isinstance(trained, TrainedSegmenter):
            self.task = "segment"
        elif isinstance(trained, TrainedEncoder):
            self.task, self.preprocessing, self.has_features = "pretrain", trained.preprocessing, True
        else:
            assert isinstance(trained, TrainedClassifier)
            self.task, self.preprocessing, self.has_features = "classify", trained.preprocessing, True
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
        return _square(self.preprocessing)

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


class ExportedBackend(InferenceBackend):
    """An exported file, which runs on the CPU.

    Args:
        exported: the opened file.
        path: path of the file.

    Raises:
        UserError: the file returns feature maps, or classifies non-square images.
    """

    def __init__(self, exported: ExportedModel, path: str | Path):
        if exported.task == "features":
            raise UserError(
                f"{path} returns feature maps, without predictions. Accepted: a run folder, or an exported classifier, "
                "detector or segmenter."
            )
        if exported.metadata.input == "image":
            raise UserError(
                f"{path} takes one decoded image and cannot be evaluated in batches. Accepted: a run folder, or a file "
                "exported without --end-to-end."
            )
        self.exported, self.path, self.device = exported, Path(path), torch.device("cpu")
        self.name, self.task, self.class_names = exported.name, exported.task, exported.class_names
        self.category_ids = list(range(1, len(exported.class_names) + 1))
        self.masks = self.task == "detect" and "masks" in exported.metadata.outputs
        self.preprocessing, self.targets = exported.preprocessing, exported.targets
        self.channels = exported.metadata.channels
        if self.preprocessing is None:
            self.tiling = read_tiling(exported.metadata.resize)
        else:
            side = self.preprocessing.img_size
            try:
                exported.check_size(side, side)
            except ValueError as error:
                raise UserError(
                    f"images are resized to {side}x{side} pixels, and {error} Export the model with a square "
                    "--img-size."
                ) from error

    @property
    def transform(self) -> Transform:
        """From an image to the input of the file."""
        if self.preprocessing is not None:
            return self.prepare
        metadata = self.exported.metadata
        if self.task == "detect":
            return lambda image: fit_for_detector(float_images([pixels_to_tensor(image)])[0], metadata)[0]
        return lambda image: fit_for_segmenter(pixels_to_tensor(image), metadata)[0]

    @property
    def run(self) -> Run | None:
        """The run that the file was exported from, or None if it does not exist."""
        run = Run(Path(self.exported.metadata.source))
        return run if run.config_file.is_file() else None

    @property
    def input_size(self) -> str:
        """The size to which images are resized, in words."""
        metadata = self.exported.metadata
        if self.preprocessing is not None:
            return _square(self.preprocessing)
        if not metadata.dynamic:
            return "{}x{}".format(*metadata.size)
        if self.task == "detect":
            return f"{metadata.resize['min_size']} to {metadata.resize['max_size']} pixels"
        return "up to {}x{}".format(*metadata.resize["scale"])

    def weights_hash(self) -> str:
        """Return the hash of the file."""
        return hash_files(self.path)

    def classify(self, images: Tensor, features: bool = False) -> ClassifierOutput:
        """Classify prepared images (B, C, S, S)."""
        assert not features
        logits = self.exported(images)
        assert isinstance(logits, Tensor)
        return logits.float().cpu(), None

    def detect_whole(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the boxes, labels, scores and masks in an image or tile (C, H, W)."""
        return self.exported.detect(float_images([pixels])[0])

    def segmenter_logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (K, H, W) of an image or tile (C, H, W)."""
        return self.exported.segmenter_logits(pixels)


def with_options(backend: InferenceBackend, tile: int | None, overlap: float, tta: bool) -> InferenceBackend:
    """Return a backend with images cut into tiles of a side in pixels, if given, and with test-time augmentation.

    Raises:
        UserError: tiles are given for a classifier, or a value is out of range.
    """
    if tile is not None:
        backend = backend.with_tiling(Tiling(tile, overlap))
    return backend.with_tta() if tta else backend


def open_backend(
    model: str | Path, file: str | Path | None = None, device: str = "auto", features: bool = False
) -> InferenceBackend:
    """Open a run, an exported file or a model with published weights; its first prediction moves it to the device.

    Args:
        model: run folder; exported file (.onnx, .xml, .pt2, .pte or .ncnn.param); or name of a model with published
            weights.
        file: file with published weights, for a model by name.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps. Exported files run on the CPU.
        features: accept the run of a pretraining, which has no classes.

    Raises:
        UserError: the model cannot be opened, or the device does not exist.
    """
    if is_exported(model):
        if file is not None:
            raise UserError(f"{model} is an exported file, which contains its weights. Remove --file.")
        if device not in ("auto", "cpu"):
            raise UserError(f"{model} is an exported file and runs on the CPU, got device {device}. Remove --device.")
        return ExportedBackend(load_exported(model), model)
    where = resolve_device(device)
    return TrainedBackend(load_model(model, file, features=features), where)


def hash_tensors(model: nn.Module) -> str:
    """Return the SHA-256 of the names and values of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_files(path: Path) -> str:
    """Return the SHA-256 of an exported file, including the separate weights file of an OpenVINO model."""
    digest = hashlib.sha256()
    for part in find_format(path).files(path):
        if part.is_file():
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _square(preprocessing: Preprocessing | None) -> str:
    assert preprocessing is not None
    return f"{preprocessing.img_size}x{preprocessing.img_size}"


def _unnormalized(resize: Callable[[Tensor], Tensor] | None) -> Transform:
    """Return the transform from an image to (C, H, W) float32, of RGB in 0 to 1, optionally resized."""

    def transform(image: Pixels) -> Tensor:
        pixels: Tensor = tv_tensors.Image(pixels_to_tensor(image))
        return float_images([pixels if resize is None else resize(pixels)])[0]

    return transform
