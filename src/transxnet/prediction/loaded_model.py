"""Load a trained or exported model, and predict for images in memory or in files."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transxnet.data.loading.preprocessing import Transform
from transxnet.data.tiling import OVERLAP
from transxnet.evaluation.inference_backends import InferenceBackend, TrainedBackend
from transxnet.evaluation.open_backend import open_backend, with_options
from transxnet.metrics.targets import Targets
from transxnet.prediction.image_inputs import ImageInput, ImageSource, read_image, split_images
from transxnet.prediction.image_results import DetectedObjects, ImagePrediction, Segmentation, classifier_prediction
from transxnet.utils.errors import UserError, check_at_least

MAX_NAMES = 5
"""Class names in the representation."""


class MissingModule(UserError, AttributeError):
    """An exported file has no module."""


class LoadedModel:
    """A classifier, detector or segmenter that is ready to predict, or a pretrained network; :func:`load` returns it.

    Args:
        backend: computes the outputs.

    Attributes:
        backend: computes the outputs.
    """

    def __init__(self, backend: InferenceBackend):
        self.backend = backend

    @property
    def name(self) -> str:
        """Run folder, model name or file."""
        return self.backend.name

    @property
    def task(self) -> str:
        """ "classify", "detect" or "segment", or "pretrain" for a network that only returns features."""
        return self.backend.task

    @property
    def targets(self) -> Targets:
        """What a classifier predicts: classes, labels with their thresholds, or a value."""
        return self.backend.targets

    @property
    def class_names(self) -> list[str]:
        """Class names by index."""
        return self.backend.class_names

    @property
    def device(self) -> torch.device:
        """Device that the model runs on."""
        return self.backend.device

    @property
    def transform(self) -> Transform:
        """The transform from an RGB PIL image to a tensor, the input of ``module`` without the batch dimension.

        For a classifier (3, S, S), normalized; for a detector or segmenter (3, H, W) in 0 to 1.
        """
        return self.backend.transform

    @property
    def module(self) -> nn.Module:
        """The network in evaluation mode, on ``device``.

        Raises:
            MissingModule: the model is an exported file; it is also an AttributeError.
        """
        if not isinstance(self.backend, TrainedBackend):
            raise MissingModule(
                f"{self.name} is an exported file, which contains no nn.Module. Load the run that it was exported from."
            )
        self.backend.start()
        return self.backend.trained.model

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, class names, preprocessing and thresholds."""
        prepared = self.backend.preprocessing
        read = [None if prepared is None else prepared.to_dict(), self.targets.to_dict()]
        content = [self.backend.weights_hash(), self.class_names, *read]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def predict(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        batch_size: int = 32,
        tile: int | None = None,
        overlap: float = OVERLAP,
        tta: bool = False,
    ) -> Any:
        """Predict for images.

        Args:
            images: one image or several: paths, PIL images, arrays (H, W, 3) or (H, W) uint8, or tensors (3, H, W),
                uint8 or float in 0 to 1; also an array (N, H, W, 3) or a tensor (N, 3, H, W). A model of C channels
                takes paths, arrays and tensors of C channels with the values that files store. For folders and large
                numbers of files see :func:`transxnet.predict`.
            batch_size: images per batch of a classifier; other models process images one by one at any size.
            tile: for detectors and segmenters, side in pixels of the tiles that images are cut into; by default as in
                training, where the default is no tiles.
            overlap: fraction of the side that neighboring tiles share.
            tta: test-time augmentation: merge the outputs of each image and of its horizontal flip.

        Returns:
            For one image a :class:`~transxnet.prediction.image_results.Classification`,
            :class:`~transxnet.prediction.image_results.MultiLabelClassification`,
            :class:`~transxnet.prediction.image_results.Regression`,
            :class:`~transxnet.prediction.image_results.DetectedObjects` or
            :class:`~transxnet.prediction.image_results.Segmentation`; for a list, tuple, array or tensor of images a
            list of them; for an iterator or generator an iterator, which reads one batch at a time.

        Raises:
            UserError: an image cannot be read or is not one of these, or the model does not accept tiles.

        Examples:
            >>> model = transxnet.load("runs/transxnet_t-photos-1")
            >>> model.predict("new/cat.jpg").label
            'cat'
        """
        check_at_least(1, batch_size=batch_size)
        if self.task == "pretrain":
            raise UserError(f"{self.name} is a pretrained network, which predicts nothing. Use embed() for features.")
        several, single = split_images(images)
        model = self.with_options(tile, overlap, tta)
        results = model._predict(several, batch_size)
        if single:
            return next(results)
        return results if isinstance(images, Iterator) else list(results)

    def with_options(self, tile: int | None = None, overlap: float = OVERLAP, tta: bool = False) -> "LoadedModel":
        """Return this model with images cut into tiles, and with test-time augmentation; see :meth:`predict`.

        Raises:
            UserError: tiles are given for a classifier, or a value is out of range.
        """
        return LoadedModel(with_options(self.backend, tile, overlap, tta))

    def embed(self, images: ImageInput | Iterable[ImageInput], *, batch_size: int = 32) -> np.ndarray:
        """Compute the pooled features before the classifier, as ``transxnet predict --embed`` does.

        Args:
            images: as for :meth:`predict`.
            batch_size: images per batch.

        Returns:
            (N, F) float32; (1, F) for a single image.

        Raises:
            UserError: the model is not a classifier, or is an exported file.
        """
        check_at_least(1, batch_size=batch_size)
        self.check_features()
        features = []
        for batch in _batches(split_images(images)[0], batch_size):
            inputs = torch.stack([self.transform(read_image(image, self.backend.channels)[0]) for image in batch])
            _, pooled = self.backend.classify(inputs, features=True)
            assert pooled is not None
            features.append(pooled.numpy())
        if not features:
            raise UserError("no images given. Pass at least one image.")
        return np.concatenate(features)

    def check_features(self) -> None:
        """Raise UserError unless the model returns pooled features."""
        if not self.backend.has_features:
            raise UserError(
                f"{self.name} is not a classifier, and only classifiers return features. Use a classifier."
                if isinstance(self.backend, TrainedBackend)
                else f"{self.name} is an exported file and returns no features. Remove --embed, or use the original "
                "run."
            )

    def results(self, prepared: Sequence[Tensor], sources: Sequence[ImageSource]) -> list[ImagePrediction]:
        """Predict for images that ``backend.prepare`` has transformed.

        Args:
            prepared: of a classifier (C, S, S), which become one batch; otherwise (C, H, W).
            sources: path of each image, or the image, for its result.
        """
        names = self.class_names
        if self.task == "classify":
            batches = [torch.stack(list(prepared))] if self.backend.batches else [image[None] for image in prepared]
            outputs = torch.cat([self.backend.predict(batch)[0] for batch in batches]).numpy()
            return [
                classifier_prediction(self.targets, names, source, row, self.backend.channels)
                for source, row in zip(sources, outputs, strict=True)
            ]
        pairs = zip(prepared, sources, strict=True)
        channels = self.backend.channels
        if self.task == "detect":
            return [
                DetectedObjects(names, source, self.backend.detect(pixels), channels=channels)
                for pixels, source in pairs
            ]
        return [
            Segmentation(names, source, self.backend.segment(pixels), channels=channels) for pixels, source in pairs
        ]

    def _predict(self, images: Iterable[ImageInput], batch_size: int) -> Iterator[ImagePrediction]:
        for batch in _batches(images, batch_size if self.task == "classify" else 1):
            opened, sources = zip(*(read_image(image, self.backend.channels) for image in batch), strict=True)
            yield from self.results([self.backend.prepare(image) for image in opened], sources)

    def __repr__(self) -> str:
        names = [repr(name) for name in self.class_names]
        shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
        return (
            f"{type(self).__name__}({self.name!r}, task={self.task!r}, device='{self.device}', "
            f"{len(names)} classes: {shown})"
        )


def load(model: str | Path, file: str | Path | None = None, *, device: str = "auto") -> LoadedModel:
    """Load a model for prediction.

    Args:
        model: run folder, also of a pretraining; exported file (.onnx, .xml, .pt2, .pte or .ncnn.param); or name of a
            model with published weights.
        file: file with published weights of a classifier, detector or segmenter, for a model by name.
        device: device to compute on: auto, cpu, cuda, cuda:1 or mps; auto is a GPU if there is one. Exported files run
            on the CPU.

    Returns:
        The model: ``predict(images)``, ``embed(images)``, ``module``, ``transform``, ``class_names`` and ``task``.

    Raises:
        UserError: the model cannot be loaded, or the device does not exist.
    """
    loaded = LoadedModel(open_backend(model, file, device, features=True))
    loaded.backend.start()
    return loaded


def open_model(model: str | Path, file: str | Path | None = None, device: str = "auto") -> LoadedModel:
    """Load a model as :func:`load`, but move it to the device only when it first predicts."""
    return LoadedModel(open_backend(model, file, device))


def _batches(images: Iterable[ImageInput], batch_size: int) -> Iterator[list[ImageInput]]:
    images = iter(images)
    while batch := list(islice(images, batch_size)):
        yield batch
