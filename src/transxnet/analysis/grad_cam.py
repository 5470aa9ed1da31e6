"""Grad-CAM: a saliency map for a class, of classifiers, detectors and segmenters."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from transxnet.analysis.explanation_targets import explanation_target
from transxnet.analysis.network_parts import NetworkPart, find_part, named_parts, to_feature_maps
from transxnet.data.formats.class_alignment import in_words
from transxnet.metrics.detection import Detections
from transxnet.runs.load import TrainedModel
from transxnet.utils.device import default_device, prepare_for_inference
from transxnet.utils.errors import UserError, nearest
from transxnet.utils.optional_packages import require_package

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Explanation:
    """Where the reasons for a class lie in an image.

    Attributes:
        path: of the file.
        image: (H, W, 3) uint8, the preprocessed image.
        class_name: of the class that is explained, in words.
        class_index: its index, from 0.
        score: the classifier's probability of it, the best detection's score, or the share of pixels that are its.
        maps: for each part (H, W) float32 from 0 to 1, its largest value; all 0 where nothing speaks for the class.
        titles: of the parts.
        found: what a detector found of the class, and counts for the score; else None.
        labels: (H, W) uint8, a segmenter's classes; else None.
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


def require_grad_cam() -> None:
    """Raise UserError, naming the extra, unless the Grad-CAM package is installed."""
    require_package("pytorch_grad_cam", "transxnet[explain]", "Grad-CAM")


def grad_cam(
    model: nn.Module,
    network: nn.Module,
    images: Tensor,
    part: nn.Module,
    targets: Sequence[Callable[[Any], Tensor]],
) -> np.ndarray:
    """Compute Grad-CAM (Selvaraju et al. 2017): the positive part of the channels weighted by their mean gradient.

    By the package grad-cam, in one forward and backward pass.

    Args:
        model: in evaluation mode.
        network: the backbone of the model, which contains the part.
        images: (B, 3, H, W), as the model takes them, on its device.
        part: a module of the network that gives feature maps (B, C, h, w), or tokens of a square.
        targets: for each image, from the model's output for it to the score that is explained.

    Returns:
        (B, H, W) float32: ``relu(sum_c mean(d score / d A_c) A_c)`` of the part's channels ``A_c``, resized, and
        scaled in each image so that it goes from 0 to 1: how strong the reasons are at two parts cannot be compared,
        and of an even map small differences show in full.

    Raises:
        UserError: the package is not installed, or the part gives no maps.

    Note:
        A transformer that classifies by a class token does not use the other tokens of its last block, so their
        gradient and the map are zero there: name an earlier block.
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
    image: Image.Image,
    class_index: int | None = None,
    parts: Mapping[str, NetworkPart] | None = None,
    path: str = "",
) -> Explanation:
    """Explain one image, without writing files.

    Args:
        trained: a classifier, detector or segmenter; its network is moved to the device.
        image: in RGB.
        class_index: of the class, from 0; by default as in :func:`~transxnet.analysis.explain.explain`.
        parts: parts of the network, by name; by default all that have a short name.
        path: of the image file, if it has one.

    Raises:
        UserError: the package is not installed, a part gives no maps, or the network can't be explained.
        NothingToExplain: a detector finds no such object, or no pixel is of the class.
    """
    try:
        network = trained.backbone
        parts = parts or named_parts(network) or {"": find_part(network)}
        device = default_device()
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
        )
    except UserError:
        raise
    except Exception as error:  # networks are of many kinds, and what is asked beside the reasons is worth having
        _logger.exception("Grad-CAM of %s", trained.name)
        raise UserError(f"Grad-CAM fails on this network: {type(error).__name__}: {error}") from error


def find_class(trained: TrainedModel, name: str) -> int:
    """The index, from 0, of a class that is named as the model has it, or in words.

    Raises:
        UserError: there is none of this name; the nearest are named.
    """
    words = [in_words(known) for known in trained.class_names]
    for names in (trained.class_names, words):
        if name in names:
            return names.index(name)
    shown = ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
    raise UserError(f"the model has no class {name!r}.{nearest(name, words)} Accepted: {shown}.")
