"""What predicting classes needs of a model, wherever that runs."""

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
from transxnet.utils.device import default_device, prepare_for_inference
from transxnet.utils.errors import UserError

Answer = tuple[Tensor, Tensor | None]
"""Logits (B, C), and pooled features (B, F) where they were asked for, both float32 on the CPU."""


@dataclass(frozen=True)
class Predictor:
    """A classifier that is ready to be asked.

    Attributes:
        name: for the user.
        class_names: C names by class index.
        preprocessing: from a picture to its input.
        weights_hash: reads all weights; the same for the same ones, and for no others.
        answer: from images (B, 3, S, S) float32 on the CPU, and whether features are wanted too, to its answer.
        embeds: whether it can give features.
    """

    name: str
    class_names: list[str]
    preprocessing: Preprocessing
    weights_hash: Callable[[], str]
    answer: Callable[[Tensor, bool], Answer]
    embeds: bool = True

    @cached_property
    def fingerprint(self) -> str:
        """The same for the same weights, class names and preprocessing, and for no others."""
        words = [self.weights_hash(), self.class_names, self.preprocessing.to_dict()]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()

    def probabilities(self, images: Tensor) -> Tensor:
        """(B, C) float32 on the CPU, of images (B, 3, S, S) float32."""
        return self.answer(images, False)[0].softmax(dim=1)


def classifier_predictor(trained: TrainedClassifier) -> Predictor:
    """The predictor of a run's classifier, or of a published one; on the GPU, where there is one, once it is asked."""

    @cache
    def ready() -> tuple[Any, torch.device]:  # timm's networks have methods that modules do not
        device = default_device()
        return prepare_for_inference(trained.model, device), device

    def answer(images: Tensor, embed: bool) -> Answer:
        model, device = ready()  # outside of inference mode, in which the weights would lose their gradients for good
        with torch.inference_mode():
            images = images.to(device, memory_format=torch.channels_last)
            if not embed:
                return model(images).float().cpu(), None
            features = model.forward_features(images)
            logits, pooled = model.forward_head(features), model.forward_head(features, pre_logits=True)
            return logits.float().cpu(), pooled.float().cpu()

    weights_hash = partial(hash_of, trained.model)
    return Predictor(trained.name, trained.class_names, trained.preprocessing, weights_hash, answer)


def exported_predictor(exported: ExportedModel, path: str | Path) -> Predictor:
    """The predictor of an exported file, which gives no features.

    Raises:
        UserError: it is no classifier's, or one for images that are not square.
    """
    if exported.task != "classify" or exported.preprocessing is None:
        raise UserError(f"{path} was exported to {exported.task}. Accepted: a run, or an exported classifier.")
    side = exported.preprocessing.img_size
    try:
        exported.check_size(side, side)
    except ValueError as error:
        raise UserError(
            f"pictures are brought to {side}x{side} pixels, and {error} Export the model with a square --size."
        ) from error

    def answer(images: Tensor, embed: bool) -> Answer:
        assert not embed
        logits = exported(images)
        assert isinstance(logits, Tensor)
        return logits.float().cpu(), None

    weights_hash = partial(hash_of_file, Path(path))
    return Predictor(exported.name, exported.class_names, exported.preprocessing, weights_hash, answer, embeds=False)


def load_any(model: str | Path, file: str | Path | None = None) -> Predictor | TrainedDetector | TrainedSegmenter:
    """What :func:`load_model` gives, a classifier ready to be asked; and an exported classifier too.

    Raises:
        UserError: it cannot be loaded.
    """
    if is_exported(model):
        if file is not None:
            raise UserError(f"{model} is an exported file with weights of its own: --file is for a model by name.")
        return exported_predictor(load_exported(model), model)
    trained = load_model(model, file)
    if isinstance(trained, TrainedClassifier):
        return classifier_predictor(trained)
    assert isinstance(trained, TrainedDetector | TrainedSegmenter)
    return trained


def load_predictor(model: str | Path, file: str | Path | None = None) -> Predictor:
    """The same, of a classifier.

    Raises:
        UserError: it cannot be loaded, or is no classifier.
    """
    loaded = load_any(model, file)
    if not isinstance(loaded, Predictor):
        raise UserError(
            f"{model} is no classifier, and its results are no table: give a folder as --out, without --rows_per_file, "
            "--embed and --ray."
        )
    return loaded


def hash_of(model: nn.Module) -> str:
    """SHA-256 over the names and values of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_of_file(path: Path) -> str:
    """SHA-256 over a file, and over the one that has the weights of an OpenVINO model."""
    digest = hashlib.sha256()
    for part in find_format(path).files(path):
        if part.is_file():
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
