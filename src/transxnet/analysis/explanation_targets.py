"""The score that Grad-CAM explains: a logit, the scores of detections, or the logits of a class's pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors

from transxnet.data.reading.pixels import Pixels, displayed, pixels_to_tensor, unit_to_uint8
from transxnet.heads.detector_transform import float_images
from transxnet.metrics.detection import MIN_SCORE, Detections
from transxnet.reports.drawing import named_background
from transxnet.runs.trained_models import TrainedClassifier, TrainedDetector, TrainedModel, TrainedSegmenter
from transxnet.utils.errors import UserError


class NothingToExplain(UserError):
    """The class does not occur in the image, so there is nothing to explain."""


@dataclass(frozen=True)
class ExplanationTarget:
    """The score to explain, and the image.

    Attributes:
        model: takes the images.
        images: (1, C, H, W).
        score_of: from the model's output for the image to the score, with gradients.
        class_index: index of the explained class, from 0.
        score: the score to report: a probability or the value of a regression, the best detection's score, or a
            fraction of the pixels.
        image: (H, W, 3) uint8, the preprocessed image.
        seen: fraction of the network's maps, from the upper left, that the image covers without padding.
        found: a detector's detections that contribute to the score.
        labels: (H, W) uint8, a segmenter's classes.
    """

    model: nn.Module
    images: Tensor
    score_of: Callable[[Any], Tensor]
    class_index: int
    score: float
    image: np.ndarray
    seen: tuple[float, float] = (1.0, 1.0)
    found: Detections | None = None
    labels: np.ndarray | None = None

    def within(self, heat: np.ndarray) -> np.ndarray:
        """Crop a map (H, W) to the part that the image covers, and resize it to the image's size."""
        if self.seen == (1.0, 1.0):
            return heat
        height, width = heat.shape
        box = (0.0, 0.0, width * self.seen[1], height * self.seen[0])
        return np.asarray(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR, box=box))


def explanation_target(
    trained: TrainedModel, image: Pixels, class_index: int | None, device: torch.device
) -> ExplanationTarget:
    """Choose the score to explain.

    Args:
        trained: a model on the device, in evaluation mode.
        image: an RGB image; for a model of channels a tensor (C, H, W).
        class_index: index of the class, from 0; by default a classifier's top class, the class of a detector's best
            detection, or a segmenter's most frequent class except background.
        device: device to compute on.

    Raises:
        NothingToExplain: the detector finds no such object, or no pixel has the class.
    """
    if isinstance(trained, TrainedClassifier):
        return _logit(trained, image, class_index, device)
    if isinstance(trained, TrainedDetector):
        return _detections(trained, image, class_index, device)
    assert isinstance(trained, TrainedSegmenter)
    return _pixels(trained, image, class_index, device)


def _logit(
    trained: TrainedClassifier, image: Pixels, class_index: int | None, device: torch.device
) -> ExplanationTarget:
    """The class's logit."""
    preprocessing = trained.preprocessing
    images = preprocessing.transform()(image)[None].to(device)
    with torch.inference_mode():
        outputs = trained.targets.activate(trained.model(images).float())[0]
    chosen = int(outputs.argmax()) if class_index is None else class_index
    return ExplanationTarget(
        model=trained.model,
        images=images,
        score_of=lambda logits: logits[chosen],
        class_index=chosen,
        score=float(outputs[chosen]),
        image=preprocessing.display(images[0]),
    )


class _BatchedDetector(nn.Module):
    """A detector that takes a batch (B, 3, H, W) instead of a list."""

    def __init__(self, detector: nn.Module):
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Return the detections of each image."""
        return self.detector(list(images))


def _detections(
    trained: TrainedDetector, image: Pixels, class_index: int | None, device: torch.device
) -> ExplanationTarget:
    """The sum of the scores of the class's confident detections, or else the score of the best one."""
    tensor = float_images([pixels_to_tensor(image).to(device)])[0]
    with torch.inference_mode():
        (output,) = trained.model([tensor])
        resized, _ = trained.model.transform.resize(tensor)
    labels, scores = output["labels"], output["scores"]
    if class_index is not None:
        kept = labels == class_index + 1
        what = f"no detections of {trained.class_names[class_index]!r}"
    else:
        kept = labels == labels[scores.argmax()] if len(labels) else labels.bool()
        what = "no detections"
    if not kept.any():
        raise NothingToExplain(f"{what} in this image.")
    found = Detections.from_output({name: values[kept] for name, values in output.items()})
    count = max(1, int((found.scores >= MIN_SCORE).sum()))
    label = int(found.labels[0])
    masks = None if found.masks is None else found.masks[:count]
    # The network's maps cover the resized image, padded to multiples of 32 at the right and the bottom.
    divisor = trained.model.transform.size_divisible
    height, width = (side / (-(-side // divisor) * divisor) for side in resized.shape[1:])
    return ExplanationTarget(
        model=_BatchedDetector(trained.model),
        images=tensor[None],
        score_of=lambda output: output["scores"][output["labels"] == label][:count].sum(),
        class_index=label - 1,
        score=float(found.scores[0]),
        image=np.asarray(displayed(image)),
        seen=(height, width),
        found=Detections(found.boxes[:count], found.labels[:count], found.scores[:count], masks),
    )


def _pixels(
    trained: TrainedSegmenter, image: Pixels, class_index: int | None, device: torch.device
) -> ExplanationTarget:
    """The sum of the class's logits over the pixels assigned to it."""
    resized = trained.resize(tv_tensors.Image(pixels_to_tensor(image)))
    images = torch.stack(float_images([resized])).to(device)
    with torch.no_grad():
        labels = trained.model(images)[0].argmax(0)
    chosen = _most_frequent(labels, trained.class_names) if class_index is None else class_index
    selected = labels == chosen
    if not selected.any():
        raise NothingToExplain(f"no pixel is predicted as {trained.class_names[chosen]!r} in this image.")
    mask = selected.float()
    return ExplanationTarget(
        model=trained.model,
        images=images,
        score_of=lambda logits: (logits[chosen] * mask).sum(),
        class_index=chosen,
        score=float(mask.mean()),
        image=unit_to_uint8(images[0]) if trained.channels is None else np.asarray(displayed(images[0])),
        labels=labels.to(torch.uint8).cpu().numpy(),
    )


def _most_frequent(labels: Tensor, class_names: Sequence[str]) -> int:
    """Return the class of most pixels; background only if no other class occurs."""
    counts = labels.flatten().bincount(minlength=len(class_names))
    background = named_background(class_names)
    if background is not None and counts[background] < labels.numel():
        counts[background] = 0
    return int(counts.argmax())
