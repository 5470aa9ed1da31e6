"""Compare an exported file with PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from transxnet.data.reading.pixels import Pixels
from transxnet.deploy.export_format import Session
from transxnet.deploy.export_images import image_batch, normalize_images
from transxnet.deploy.exportable_model import MULTIPLE, ExportableModel
from transxnet.deploy.metadata import Metadata
from transxnet.utils.errors import UserError

BATCHES = (1, 2, 7)
"""Batch sizes at which a file with a dynamic batch is checked."""

TOLERANCE = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2, "int8": 5e-2, "int8-bfloat16": 5e-2}
"""Largest accepted difference from float32 PyTorch, relative to the largest value, by the file's dtype. Of int8 files
from their own outputs at export, since other processors round differently."""

WHOLE_IMAGE_TOLERANCE = 1e-3
"""The same for files that take whole images: few of their pixels differ from training's, by one level of 255."""

LABEL_MAP_TOLERANCE = 1e-2
"""Largest accepted fraction of pixels with another class in a label map; the classes of a few pixels are close."""

WHOLE_IMAGES = {"classify": 7, "detect": 3, "segment": 3}
"""Number of images on which a file that takes whole images is checked, each at two sizes."""

PAIRED = 0.5
"""Distance up to which a detection of the file matches one of PyTorch, relative to the shorter side of its box."""

REPLACED = 20
"""One detection in this many may be another box with as close a score, in a file of another type than float32."""


@dataclass(frozen=True)
class Comparison:
    """The difference between a file and PyTorch on some images.

    Attributes:
        size: height and width of the images.
        batch: number of images.
        absolute: largest absolute difference of any output value.
        relative: largest difference relative to the largest value of its output.
        agreement: fraction of the images, pixels or detections with the same class, or None for other outputs.
    """

    size: tuple[int, int]
    batch: int
    absolute: float
    relative: float
    agreement: float | None

    def describe(self) -> str:
        """Describe it in one line."""
        height, width = self.size
        same = "" if self.agreement is None else f", same class {self.agreement:.1%}"
        return (
            f"verified at batch size {self.batch}, {height}x{width}: maximum absolute difference {self.absolute:.2g}, "
            f"relative {self.relative:.1g}{same}"
        )


def compare(
    session: Session,
    exportable: ExportableModel,
    metadata: Metadata,
    originals: Sequence[Pixels],
    progress: Callable[[int], object] = lambda done: None,
) -> list[Comparison]:
    """Compare a file with its original model on real images, at several sizes and batch sizes.

    Raises:
        UserError: the file's runtime cannot run it.
    """
    comparisons = []
    for done, images in enumerate(check_images(metadata, originals), 1):
        whole = metadata.input == "image"
        inputs = images if whole else normalize_images(images, metadata.mean, metadata.std)
        truth, answer = exportable.reference_outputs(inputs), run_file(session, images, metadata)
        masks_in = None if whole else partial(exportable.reference_masks, inputs)
        height, width = images.shape[-3:-1]
        batch = 1 if whole else len(images)
        comparisons.append(Comparison((height, width), batch, *difference(answer, truth, metadata, masks_in)))
        progress(done)
    return comparisons


def check_images(metadata: Metadata, originals: Sequence[Pixels]) -> Iterator[Tensor]:
    """Iterate over the images (N, H, W, C), or (H, W, 3) uint8 of any size, on which a file is checked."""
    if metadata.input == "image":
        for image in originals:
            assert isinstance(image, Image.Image)
            yield torch.from_numpy(np.array(image))
            yield torch.from_numpy(np.array(image.rotate(90, expand=True).reduce(2)))
        return
    for number, (size, batch) in enumerate(check_cases(metadata)):
        first = number % len(originals)
        yield image_batch([*originals[first:], *originals[:first]], size, batch)


def images_to_check(metadata: Metadata) -> int:
    """Return the number of different images that a file is checked on."""
    if metadata.input == "image":
        return WHOLE_IMAGES[metadata.task]
    batches = [batch for _, batch in check_cases(metadata)]
    return max(len(batches), *batches)


def run_file(session: Session, images: Tensor, metadata: Metadata) -> list[Tensor]:
    """Run a file on images (N, H, W, C), or on one (H, W, 3), normalized as it requires.

    Raises:
        UserError: the file's runtime cannot run it.
    """
    inputs = normalize_images(images, metadata.mean, metadata.std) if metadata.input == "float32" else images
    try:
        return session(inputs)
    except Exception as error:  # each runtime has its own exceptions
        *batch, height, width, _ = images.shape
        count = batch[0] if batch else 1
        raise UserError(f"cannot run the exported file at batch size {count}, {height}x{width}: {error}") from error


def difference(
    answer: Sequence[Tensor],
    truth: Sequence[Tensor],
    metadata: Metadata,
    masks_in: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[float, float, float | None]:
    """The values ``absolute``, ``relative`` and ``agreement`` of :class:`Comparison`.

    Args:
        answer: outputs of the file.
        truth: outputs of PyTorch.
        metadata: metadata of the file.
        masks_in: computes PyTorch's masks in given boxes (N, 4) of classes (N,). With it, masks are compared in the
            same boxes, since in a small box the rounding of its corners changes a mask more than all other rounding.
    """
    if metadata.task == "detect":
        return _detections(answer, truth, metadata, masks_in)
    if metadata.input == "image" and metadata.task == "segment":
        return _label_maps(answer[0], truth[0])
    return _values(answer, truth, metadata)


def check_cases(metadata: Metadata) -> Iterator[tuple[tuple[int, int], int]]:
    """Iterate over the sizes and batch sizes at which a file is checked."""
    batches = [metadata.batch] if metadata.batch else BATCHES
    height, width = metadata.size
    tall = height + MULTIPLE if "height" in metadata.dynamic else height
    wide = width + 2 * MULTIPLE if "width" in metadata.dynamic else width
    for size in dict.fromkeys([(height, width), (tall, width), (height, wide), (tall, wide)]):
        for batch in batches if size == (height, width) else batches[-2:-1] or batches:
            yield size, batch


def accepted_difference(metadata: Metadata) -> float:
    """Return the largest accepted relative difference of a file."""
    whole = LABEL_MAP_TOLERANCE if metadata.task == "segment" else WHOLE_IMAGE_TOLERANCE
    return max(TOLERANCE[metadata.dtype], whole if metadata.input == "image" else 0.0)


def check_tolerance(comparisons: Sequence[Comparison], metadata: Metadata) -> None:
    """Raise UserError if a file differs from PyTorch by more than its data type explains."""
    worst = max(comparisons, key=lambda comparison: _order(comparison.relative))
    limit = accepted_difference(metadata)
    if not worst.relative <= limit:
        raise UserError(
            f"the outputs of the exported file differ from PyTorch by {worst.absolute:.3g} at batch size "
            f"{worst.batch}, {worst.size[0]}x{worst.size[1]}: a relative difference of {worst.relative:.2g}, accepted "
            f"in {metadata.dtype}: {limit:g}. Nothing was written."
        )


def _order(value: float) -> float:
    return value if value == value else float("inf")


def _values(answer: Sequence[Tensor], truth: Sequence[Tensor], metadata: Metadata) -> tuple[float, float, float | None]:
    absolute = relative = 0.0
    for a, t in zip(answer, truth, strict=True):
        _check_shapes(a, t)
        largest = (a.double() - t.double()).abs().max().item()
        share = largest / max(t.abs().max().item(), torch.finfo(torch.float32).tiny)
        absolute, relative = max(absolute, _order(largest)), max(relative, _order(share))
    if metadata.task == "features" or metadata.decoded_targets.kind != "classes":
        return absolute, relative, None
    return absolute, relative, (answer[0].argmax(1) == truth[0].argmax(1)).double().mean().item()


def _label_maps(answer: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """The fraction of pixels with another class, twice, and that with the same class."""
    _check_shapes(answer, truth)
    other = (answer != truth).double().mean().item()
    return other, other, 1 - other


def _detections(
    answer: Sequence[Tensor],
    truth: Sequence[Tensor],
    metadata: Metadata,
    masks_in: Callable[[Tensor, Tensor], Tensor] | None,
) -> tuple[float, float, float | None]:
    """Compare scores in order, which only ties can change, and each box and its mask with the nearest of its class.

    A detection that only one of them has counts with its score, from the threshold of files that drop others. Boxes
    with the lowest score are not compared: ties at the end of the output may be cut off differently.

    Suppression keeps the higher score of two overlapping boxes, so in other types than float32 rounding may replace a
    box by another one with an almost equal score. There, boxes below the score threshold and below half the highest
    score, which are the background's, are not compared, and one in ``REPLACED`` of the others may be replaced.
    """
    rounded = metadata.dtype != "float32"
    boxes, labels, scores = answer[:3]
    real = (scores > 0) & ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    boxes, labels, scores, *masks = (values[real] for values in answer)
    true_boxes, true_labels, true_scores, *true_masks = truth
    least = metadata.score_threshold if metadata.input == "image" else 0.0
    missing = len(scores) - len(true_scores)
    padded, true_padded = (
        F.pad(scores, (0, max(-missing, 0)), value=least),
        F.pad(true_scores, (0, max(missing, 0)), value=least),
    )
    if not len(padded):
        return 0.0, 0.0, 1.0
    score_difference = (padded - true_padded).abs().max().item()
    relative = score_difference / max(true_padded.max().item(), least, torch.finfo(torch.float32).tiny)
    counted = true_scores > (true_scores[-1:] + score_difference * 2 + 1e-6)
    if rounded:
        counted &= true_scores >= torch.clamp(true_scores[:1] / 2, max=metadata.score_threshold)
    if not counted.any():
        return score_difference, relative, 1.0
    if not len(scores):
        return float("inf"), float("inf"), 0.0
    away = (boxes[None] - true_boxes[counted][:, None]).abs().amax(2)
    away = away.masked_fill(labels[None] != true_labels[counted][:, None], float("inf"))
    nearest, partners = away.min(1)
    paired = nearest < _extent(true_boxes[counted]) * PAIRED
    kept = torch.ones_like(paired)
    if rounded:
        tied = paired & ((scores[partners] - true_scores[counted]).abs() <= score_difference * 2 + 1e-6)
        farthest = torch.where(tied, nearest, -1).topk(len(nearest) // REPLACED).indices
        kept[farthest] = ~tied[farthest]
    box_difference = nearest[kept].max().item()
    relative = max(relative, box_difference / true_boxes.abs().max().item())
    for own, true in zip(masks, true_masks, strict=True):
        chosen = partners[kept]
        expected = true[counted][kept] if masks_in is None else masks_in(boxes[chosen], labels[chosen])
        relative = max(relative, _mask_difference(own[chosen], expected))
    return max(score_difference, box_difference), relative, paired.double().mean().item()


def _mask_difference(answer: Tensor, truth: Tensor) -> float:
    """The largest difference of values, or of pasted masks the differing pixels relative to the pixels of the masks."""
    if truth.dtype == torch.bool:
        return (answer ^ truth).sum().item() / max(truth.sum().item(), 1)
    return (answer - truth).abs().amax().item()


def _check_shapes(answer: Tensor, truth: Tensor) -> None:
    if answer.shape != truth.shape:
        raise UserError(f"the exported file returns shape {tuple(answer.shape)}, PyTorch returns {tuple(truth.shape)}.")


def _extent(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).amin(1).clamp(min=1)
