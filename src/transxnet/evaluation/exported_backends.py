"""Run an exported file on images."""

import hashlib
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from transxnet.data.loading.preprocessing import Transform
from transxnet.data.reading.pixels import pixels_to_tensor
from transxnet.data.tiling import Tiling, read_tiling
from transxnet.deploy.exported_model import ExportedModel, fit_for_detector, fit_for_segmenter
from transxnet.deploy.format_registry import find_format
from transxnet.evaluation.flipped_outputs import merge_outputs
from transxnet.evaluation.inference import ClassifierOutput
from transxnet.evaluation.inference_backends import InferenceBackend, square_size
from transxnet.heads.detector_transform import float_images
from transxnet.runs.run_folder import Run
from transxnet.utils.errors import UserError


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
            return square_size(self.preprocessing)
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


class WholeImageBackend(ExportedBackend):
    """An exported file that takes one decoded image of any size and returns predictions; it runs on the CPU.

    Args:
        exported: the opened file.
        path: path of the file.
    """

    batches = False

    def __init__(self, exported: ExportedModel, path: str | Path):
        super().__init__(exported, path)
        self.preprocessing = None  # it is inside

    @property
    def transform(self) -> Transform:
        """From an image to a tensor (3, H, W) uint8."""
        return self.prepare

    @property
    def input_size(self) -> str:
        """The size to which images are resized, in words."""
        return "their own size"

    def with_tiling(self, tiling: Tiling) -> Self:
        """Return this backend with images cut into tiles; raises UserError for other models than detectors."""
        self._check_logits("tile")
        return super().with_tiling(tiling)

    def with_tta(self) -> Self:
        """Return this backend with test-time augmentation; raises UserError for a segmenter."""
        self._check_logits("tta")
        return super().with_tta()

    def predict(self, images: Tensor, features: bool = False) -> ClassifierOutput:
        """Return a classifier's probabilities or values (B, C) of images (B, 3, H, W) uint8."""
        outputs = torch.cat([self._probabilities(image) for image in images])
        if self.tta:
            outputs = merge_outputs(outputs, torch.cat([self._probabilities(image.flip(-1)) for image in images]))
        return outputs, None

    def segment(self, pixels: Tensor) -> np.ndarray:
        """Return the label map (H, W) uint8 of an image (3, H, W)."""
        return self.exported.predict_image(pixels)["label_map"].numpy()

    def _probabilities(self, pixels: Tensor) -> Tensor:
        return self.exported.predict_image(pixels)["probabilities"]

    def _check_logits(self, option: str) -> None:
        if self.task == "segment":
            raise UserError(
                f"{self.path} returns label maps, which cannot be merged. Remove --{option}, or use a file exported "
                "without --end-to-end."
            )


def hash_files(path: Path) -> str:
    """Return the SHA-256 of an exported file, including the separate weights file of an OpenVINO model."""
    digest = hashlib.sha256()
    for part in find_format(path).files(path):
        if part.is_file():
            with part.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
