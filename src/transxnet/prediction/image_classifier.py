"""Load a model for prediction: a run folder, published weights by name, or an exported classifier."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transxnet.data.loading.preprocessing import Preprocessing
from transxnet.deploy.exported_model import ExportedModel, load_exported
from transxnet.deploy.format_registry import find_format, is_exported
from transxnet.runs.load import TrainedClassifier, TrainedDetector, TrainedSegmenter, load_model
from transxnet.utils.device import prepare_for_inference, resolve_device
from transxnet.utils.errors import UserError

ClassifierOutput = tuple[Tensor, Tensor | None]
"""Logits (B, C), and pooled features (B, F) if requested, both float32 on the CPU."""


@dataclass(frozen=True)
class ImageClassifier:
    """A classifier with its preprocessing, from a run, published weights or an exported file.

    Attributes:
        name: name to show to the user.
        class_names: C names by class index.
        preprocessing: from an image to the input of the network.
        weights_hash: reads all weights and returns their hash.
        forward: maps images (B, 3, S, S) float32 on the CPU, and whether features are requested, to the output.
        has_features: whether it can return pooled features.
    """

    name: str
    class_names: list[str]
    preprocessing: Preprocessing
    weights_hash: Callable[[], str]
    forward: Callable[[Tensor, bool], ClassifierOutput]
    has_features: bool = True

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash of the weights, class names and preprocessing."""
        content = [self.weights_hash(), self.class_names, self.preprocessing.to_dict()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def probabilities(self, images: Tensor) -> Tensor:
        """Compute probabilities (B, C) float32 on the CPU for images (B, 3, S, S) float32."""
        return self.forward(images, False)[0].softmax(dim=1)


def trained_classifier(trained: TrainedClassifier) -> ImageClassifier:
    """Wrap the classifier of a run or of published weights; the first batch moves it to the GPU if there is one."""

    @cache
    def model_on_device() -> tuple[Any, torch.device]:  # timm's networks have methods that modules do not
        device = resolve_device()
        return prepare_for_inference(trained.model, device), device

    def forward(images: Tensor, features: bool) -> ClassifierOutput:
        model, device = model_on_device()  # before inference mode, in which the weights would lose their gradients
        with torch.inference_mode():
            images = images.to(device, memory_format=torch.channels_last)
            if not features:
                return model(images).float().cpu(), None
            feature_map = model.forward_features(images)
            logits, pooled = model.forward_head(feature_map), model.forward_head(feature_map, pre_logits=True)
            return logits.float().cpu(), pooled.float().cpu()

    weights_hash = partial(hash_tensors, trained.model)
    return ImageClassifier(trained.name, trained.class_names, trained.preprocessing, weights_hash, forward)


def exported_classifier(exported: ExportedModel, path: str | Path) -> ImageClassifier:
    """Wrap the classifier of an exported file, without features.

    Raises:
        UserError: the file is for another task, or for non-square images.
    """
    if exported.task != "classify" or exported.preprocessing is None:
        raise UserError(
            f"{path} was exported for task {exported.task}. Accepted: a run folder, or an exported classifier."
        )
    side = exported.preprocessing.img_size
    try:
        exported.check_size(side, side)
    except ValueError as error:
        raise UserError(
            f"images are resized to {side}x{side} pixels, and {error} Export the model with a square --img-size."
        ) from error

    def forward(images: Tensor, features: bool) -> ClassifierOutput:
        assert not features
        logits = exported(images)
        assert isinstance(logits, Tensor)
        return logits.float().cpu(), None

    weights_hash = partial(hash_files, Path(path))
    return ImageClassifier(
        exported.name, exported.class_names, exported.preprocessing, weights_hash, forward, has_features=False
    )


def load_for_prediction(
    model: str | Path, file: str | Path | None = None
) -> ImageClassifier | TrainedDetector | TrainedSegmenter:
    """Load a run folder, published weights by the name of the model, or an exported classifier.

    Raises:
        UserError: it cannot be loaded.
    """
    if is_exported(model):
        if file is not None:
            raise UserError(f"{model} is an exported file, which contains its weights. Remove --file.")
        return exported_classifier(load_exported(model), model)
    trained = load_model(model, file)
    if isinstance(trained, TrainedClassifier):
        return trained_classifier(trained)
    assert isinstance(trained, TrainedDetector | TrainedSegmenter)
    return trained


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
