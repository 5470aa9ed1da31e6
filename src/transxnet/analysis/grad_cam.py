"""Grad-CAM: saliency maps of a class, for classifiers, detectors and segmenters."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from transxnet.analysis.explanation_targets import explanation_target
from transxnet.analysis.network_parts import NetworkPart, find_part, named_parts, to_feature_maps
from transxnet.data.formats.class_alignment import in_words
from transxnet.data.reading.pixels import Pixels
from transxnet.metrics.detection import Detections
from transxnet.runs.trained_models import TrainedClassifier, TrainedModel
from transxnet.utils.device import prepare_for_inference, resolve_device
from transxnet.utils.errors import UserError, nearest
from transxnet.utils.optional_packages import require_package
from transxnet.utils.quantities import format_value

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explanation:
    """The saliency maps of a class for an image.

    Attributes:
        path: path of the image file.
        image: (H, W, 3) uint8, the preprocessed image.
        class_name: readable name of the explained class.
        class_index: its index, from 0.
        score: the classifier's probability or a regression's value, the best detection's score, or the fraction of
            pixels of the class.
        maps: for each part (H, W) float32 scaled to a maximum of 1; all 0 if no region supports the class.
        titles: titles of the parts.
        found: detections of the class that contribute to the score; None for other models.
        labels: (H, W) uint8, a segmenter's classes; None for other models.
        is_value: whether the score is the value of a regression.
    """

    path: str
    image: np.ndarray
    class_name: str
    class_index: int
    score: float
    maps: dict[str, np.ndarray]
    titles: dict[str, str]
    found: Detections | None = None
    labels: np.ndarray | None = None
    is_value: bool = False

    @property
    def score_text(self) -> str:
        """The score as text: in percent, or the value of a regression."""
        if self.is_value:
            return format_value(self.score)
        return f"{self.score:.0%}" if self.score >= 0.005 else "<1%"


def require_grad_cam() -> None:
    """Raise UserError, naming the extra to install, unless the Grad-CAM package is installed."""
    require_package("pytorch_grad_cam", "transxnet[explain]", "Grad-CAM")


def grad_cam(
    model: nn.Module,
    network: nn.Module,
    images: Tensor,
    part: nn.Module,
    targets: Sequence[Callable[[Any], Tensor]],
) -> np.ndarray:
    """Compute Grad-CAM (Selvaraju et al. 2017): the positive part of the channels weighted by their mean gradient.

    Uses the package grad-cam, in one forward and backward pass.

    Args:
        model: in evaluation mode.
        network: the backbone of the model, which contains the part.
        images: (B, C, H, W), as the model takes them, on its device.
        part: a module of the network that outputs feature maps (B, C, h, w), or tokens of a square grid.
        targets: for each image, a function from the model's output to the score to explain.

    Returns:
        (B, H, W) float32: ``relu(sum_c mean(d score / d A_c) A_c)`` of the part's channels ``A_c``, resized, and scaled
        to 0 to 1 in each image. So maps of two parts cannot be compared in strength, and small differences of a nearly
        constant map are amplified.

    Raises:
        UserError: the package is not installed, or the part outputs no maps.

    Note:
        A transformer that classifies by a class token does not use the other tokens of its last block, so their
        gradient and the map are zero there: choose an earlier block.
    """
    require_grad_cam()
    from pytorch_grad_cam import GradCAM

    cam = GradCAM(model, [part], reshape_transform=lambda output: to_feature_maps(network, output))
    try:
        with torch.enable_grad():
            return cam(images, list(targets))
    finally:
        cam.activations_and_grads.release()
        model.zero_grad(set_to_none=True)


def explain_image(
    trained: TrainedModel,
    image: Pixels,
    class_index: int | None = None,
    parts: Mapping[str, NetworkPart] | None = None,
    path: str = "",
    device: torch.device | None = None,
) -> Explanation:
    """Explain one image, without writing files.

    Args:
        trained: a classifier, detector or segmenter; its network is moved to the device.
        image: an RGB image; for a classifier of channels a tensor (C, H, W).
        class_index: index of the class, from 0; by default as in :func:`~transxnet.analysis.explain.explain`.
        parts: names of parts of the network; by default all that have a short name.
        path: path of the image file, if it has one.
        device: device to compute on; by default a GPU if there is one.

    Raises:
        UserError: the package is not installed, a part outputs no maps, or the network cannot be explained.
        NothingToExplain: the detector finds no such object, or no pixel has the class.
    """
    try:
        network = trained.backbone
        parts = parts or named_parts(network) or {"": find_part(network)}
        device = device or resolve_device()
        prepare_for_inference(trained.model, device)
        target = explanation_target(trained, image, class_index, device)
        maps = {
            name: target.within(grad_cam(target.model, network, target.images, part.module, [target.score_of])[0])
            for name, part in parts.items()
        }
        return Explanation(
            path=path,
            image=target.image,
            class_name=in_words(trained.class_names[target.class_index]),
            class_index=target.class_index,
            score=target.score,
            maps=maps,
            titles={name: part.title for name, part in parts.items()},
            found=target.found,
            labels=target.labels,
            is_value=isinstance(trained, TrainedClassifier) and trained.targets.kind == "regression",
        )
    except UserError:
        raise
    except Exception as error:  # any network is accepted, and the caller's other results are still useful
        _logger.exception("Grad-CAM of %s", trained.name)
        raise UserError(f"Grad-CAM failed on this network: {type(error).__name__}: {error}") from error


def find_class(trained: TrainedModel, name: str) -> int:
    """Find the index, from 0, of a class by the model's name for it or by its readable name.

    Raises:
        UserError: no class has this name; the message lists the nearest ones.
    """
    readable = [in_words(known) for known in trained.class_names]
    for names in (trained.class_names, readable):
        if name in names:
            return names.index(name)
    shown = ", ".join(readable[:5]) + (f" and {len(readable) - 5} more" if len(readable) > 5 else "")
    raise UserError(f"the model has no class {name!r}.{nearest(name, readable)} Accepted: {shown}.")
