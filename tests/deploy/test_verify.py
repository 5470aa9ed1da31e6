"""Differences between an exported file and PyTorch: known values, and rejected files."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.helpers.exports import described
from transxnet.deploy.metadata import Metadata
from transxnet.deploy.verify import (
    BATCHES,
    Comparison,
    check_cases,
    check_images,
    check_tolerance,
    compare,
    difference,
    images_to_check,
)
from transxnet.utils.errors import UserError

CLASSIFIER = described(batch=2)
DETECTOR = replace(CLASSIFIER, task="detect", batch=1, resize={}, outputs=("boxes", "labels", "scores"))
IMAGES = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))]


@dataclass
class Model:
    """A model that returns the same outputs for any images."""

    outputs: tuple[Tensor, ...]

    def reference_outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        assert images.shape[1:] == (3, 32, 32)
        return self.outputs

    def reference_masks(self, images: Tensor, boxes: Tensor, labels: Tensor) -> Tensor:
        assert images.shape[1:] == (3, 32, 32)
        return steep_masks(boxes, labels)


def steep_masks(boxes: Tensor, labels: Tensor) -> Tensor:
    """Masks (N, 1, 4, 4) that a small change of their boxes changes much."""
    return (500 * boxes.sum(1) + labels).sin().abs()[:, None, None, None].repeat(1, 1, 4, 4)


def compared(metadata: Metadata, truth: tuple[Tensor, ...], answer: tuple[Tensor, ...]) -> Comparison:
    (comparison,) = compare(lambda images: list(answer), Model(truth), metadata, IMAGES)
    return comparison


def test_difference_and_agreement_of_logits():
    truth, answer = torch.tensor([[1.0, -4.0], [2.0, 0.0]]), torch.tensor([[1.0, -4.0], [2.0, 3.0]])
    assert compared(CLASSIFIER, (truth,), (answer,)) == Comparison((32, 32), 2, 3.0, 0.75, 0.5)
    assert compared(CLASSIFIER, (truth,), (truth,)) == Comparison((32, 32), 2, 0.0, 0.0, 1.0)


def test_another_shape_is_refused():
    with pytest.raises(UserError, match=r"returns shape \(2, 3\), PyTorch returns \(2, 2\)"):
        compared(CLASSIFIER, (torch.zeros(2, 2),), (torch.zeros(2, 3),))


def test_detections_are_compared_by_box_and_score():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 5, 20, 20]])
    labels, scores = torch.tensor([1, 2, 1]), torch.tensor([0.8, 0.5, 0.1])
    truth = (boxes, labels, scores)
    assert compared(DETECTOR, truth, truth).absolute == 0
    moved = boxes.clone()
    moved[0, 2] += 2
    found = compared(DETECTOR, truth, (moved, labels, scores))
    assert (found.absolute, found.agreement) == (2.0, 1.0)
    assert found.relative == pytest.approx(0.1)
    other = compared(DETECTOR, truth, (boxes, torch.tensor([2, 2, 1]), scores))
    assert other.agreement == 0.5
    missing = compared(DETECTOR, truth, (boxes[:2], labels[:2], scores[:2]))
    assert missing.relative == pytest.approx(0.1 / 0.8)
    assert compared(DETECTOR, truth, tuple(values[:0] for values in truth)).relative == pytest.approx(1)


def test_boxes_of_the_background_are_compared_in_float32_only():
    half = replace(DETECTOR, score_threshold=0.05, dtype="float16")
    boxes, labels = torch.tensor([[0.0, 0, 10, 10], [2, 0, 20, 10], [5, 5, 20, 20]]), torch.tensor([1, 1, 1])
    other = boxes.clone()
    other[1, 0] += 8
    expected = {(0.8, 0.04): 0.0, (0.8, 0.06): 0.4, (0.04, 0.03): 0.4, (0.04, 0.015): 0.0}
    for scores, relative in expected.items():
        truth = boxes, labels, torch.tensor([*scores, 0.01])
        assert compared(half, truth, (other, *truth[1:])).relative == pytest.approx(relative)
        assert compared(replace(half, dtype="float32"), truth, (other, *truth[1:])).relative == pytest.approx(0.4)


@pytest.mark.parametrize(("dtype", "replaced"), [("float32", 0), ("float16", 2), ("bfloat16", 2), ("int8", 2)])
def test_rounding_may_replace_one_box_in_twenty(dtype, replaced):
    metadata = replace(DETECTOR, score_threshold=0.05, dtype=dtype)
    left = torch.arange(41.0) * 30
    boxes = torch.stack([left, 0 * left, left + 20, 0 * left + 20], dim=1)
    truth = boxes, torch.ones(41, dtype=torch.int64), torch.linspace(0.9, 0.5, 41)
    for moved in range(4):
        other = boxes.clone()
        other[:moved, 0] += 4
        expected = 4 / 1220 if moved > replaced else 0.0
        assert compared(metadata, truth, (other, *truth[1:])).relative == pytest.approx(expected)
    elsewhere = boxes.clone()
    elsewhere[0, 1::2] += 12  # does not match the box, so it cannot have replaced it
    assert compared(metadata, truth, (elsewhere, *truth[1:])).relative == pytest.approx(12 / 1220)


def test_masks_are_compared_with_those_of_pytorch_in_the_same_boxes():
    boxes, labels = torch.tensor([[0.0, 0, 10, 10], [0, 0, 20, 10], [5, 5, 20, 20]]), torch.tensor([1, 1, 1])
    truth = (boxes, labels, torch.tensor([0.8, 0.8, 0.1]), steep_masks(boxes, labels))
    metadata = replace(DETECTOR, outputs=(*DETECTOR.outputs, "masks"))
    swapped = tuple(values[[1, 0, 2]] for values in truth)
    assert compared(metadata, truth, swapped).relative == 0
    moved = boxes.clone()
    moved[1, 2] -= 1e-3
    assert (steep_masks(moved, labels) - truth[3]).abs().max() > 0.1
    answer = moved, *truth[1:3], steep_masks(moved, labels)
    assert compared(metadata, truth, answer).relative == pytest.approx(5e-5, rel=1e-3)
    masks = truth[3].clone()
    masks[1, 0, 2, 3] += 0.25
    assert compared(metadata, truth, (*truth[:3], masks)).relative == pytest.approx(0.25)


def test_a_detection_at_the_threshold_may_be_missing():
    """A file that drops detections returns more or fewer of them, if scores are close to the threshold."""
    whole = replace(DETECTOR, input="image", score_threshold=0.05)
    truth = torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20]]), torch.tensor([1, 1]), torch.tensor([0.8, 0.0501])
    one = tuple(values[:1] for values in truth)
    for pair in ((truth, one), (one, truth)):
        assert difference(*pair, whole)[1] == pytest.approx(0.0001 / 0.8, rel=1e-3)
    none = tuple(values[:0] for values in truth)
    assert difference(none, none, whole) == (0.0, 0.0, 1.0)


def test_pasted_masks_are_compared_by_their_pixels():
    whole = replace(DETECTOR, input="image", outputs=(*DETECTOR.outputs, "masks"))
    masks = torch.zeros(2, 20, 20, dtype=torch.bool)
    masks[:, :10, :10] = True
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]])
    truth = boxes, torch.tensor([1, 2]), torch.tensor([0.8, 0.1]), masks
    other = masks.clone()
    other[0, 10, :3] = True
    assert difference((*truth[:3], other), truth, whole)[1] == pytest.approx(0.03)


def test_label_maps_are_compared_by_their_pixels():
    whole = replace(CLASSIFIER, task="segment", input="image", outputs=("label_map",))
    truth = torch.zeros(4, 5, dtype=torch.uint8)
    answer = truth.clone()
    answer[0, 0] = 2
    assert difference([answer], [truth], whole) == pytest.approx((0.05, 0.05, 0.95))
    with pytest.raises(UserError, match=r"returns shape \(4, 5\), PyTorch returns \(5, 4\)"):
        difference([answer], [truth.T], whole)


def test_sizes_and_batches_to_check():
    assert list(check_cases(CLASSIFIER)) == [((32, 32), 2)]
    assert list(check_cases(replace(CLASSIFIER, batch=0))) == [((32, 32), batch) for batch in BATCHES]
    sizes = {size for size, _ in check_cases(replace(CLASSIFIER, dynamic=("height", "width")))}
    assert sizes == {(32, 32), (64, 32), (32, 96), (64, 96)}


def test_each_size_and_batch_starts_with_another_image():
    sized = replace(DETECTOR, dynamic=("height", "width"))
    assert images_to_check(sized) == 4 and images_to_check(replace(CLASSIFIER, batch=0)) == max(BATCHES)
    plain = [Image.new("RGB", (40, 40), (50 * i, 0, 0)) for i in range(4)]
    assert [int(images[0, 0, 0, 0]) for images in check_images(sized, plain)] == [0, 50, 100, 150]


@pytest.mark.parametrize("relative", [2e-4, float("inf"), float("nan")])
def test_a_difference_above_the_tolerance_is_refused(relative):
    good = Comparison((32, 32), 1, 0.0, 1e-5, 1.0)
    check_tolerance([good], CLASSIFIER)
    with pytest.raises(
        UserError, match=r"differ from PyTorch by .* at batch size 2, 32x32: .* accepted in float32: 0.0001"
    ):
        check_tolerance([good, replace(good, batch=2, relative=relative)], CLASSIFIER)


def test_a_file_that_cannot_be_run_is_refused():
    def fails(images: Tensor) -> list[Tensor]:
        raise RuntimeError("no memory")

    with pytest.raises(UserError, match="cannot run the exported file at batch size 2, 32x32: no memory"):
        compare(fails, Model((torch.zeros(2, 2),)), CLASSIFIER, IMAGES)
