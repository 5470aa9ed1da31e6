"""The reference image and its outputs, as text and with other outputs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.helpers.exports import described
from transxnet.deploy.reference_answer import POSITIONS, SIDE, ReferenceAnswer

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 150, 3), dtype=np.uint8))


def maps(images: Tensor) -> tuple[Tensor, ...]:
    """Two maps of different sizes with random values, and the largest value off the evenly spaced positions."""
    dice = torch.Generator().manual_seed(0)
    outputs = tuple(torch.rand(len(images), 4, side, side, generator=dice) for side in (16, 8))
    outputs[0][0, 2, 0, 7] = 50.0
    return outputs


def stored(reference: ReferenceAnswer) -> ReferenceAnswer:
    return ReferenceAnswer.from_dict(json.loads(json.dumps(reference.to_dict())))


@pytest.mark.parametrize("batch", [0, 3])
def test_image_has_the_size_and_batch_of_the_input(batch):
    metadata = described(batch=batch, size=(32, 64))
    reference = stored(ReferenceAnswer.create(PHOTO, metadata, lambda images: (torch.zeros(len(images), 2),)))
    assert reference.images(metadata).shape == (batch or 1, 32, 64, 3)
    assert len(reference.image) < 3 * SIDE * SIDE


def test_outputs_survive_as_text():
    metadata, logits = described(batch=2), torch.tensor([[0.1, -3e30], [7.0, 8.0]])
    reference = stored(ReferenceAnswer.create(PHOTO, metadata, lambda images: (logits,)))
    assert torch.equal(reference.outputs[0], logits[:1])
    assert reference.compare([logits], metadata).absolute == 0


def test_maps_are_compared_at_some_positions_and_the_largest_value():
    metadata = described(task="features", outputs=("stride4", "stride8"))
    reference = stored(ReferenceAnswer.create(PHOTO, metadata, maps))
    assert [output.shape for output in reference.outputs] == [(1, 4, POSITIONS + 1), (1, 4, POSITIONS + 1)]
    outputs = maps(torch.zeros(1))
    assert reference.compare(outputs, metadata).relative == 0
    comparison = reference.compare([outputs[0] * 1.01, outputs[1]], metadata)
    assert comparison.absolute == pytest.approx(0.5, rel=1e-4)
    assert comparison.relative == pytest.approx(0.01, rel=1e-3)


def test_detections_are_stored_completely():
    metadata = replace(described(task="detect", outputs=("boxes", "labels", "scores")), batch=1)
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 30, 20]])
    found = boxes, torch.tensor([2, 1]), torch.tensor([0.75, 0.5])
    reference = stored(ReferenceAnswer.create(PHOTO, metadata, lambda images: found))
    padded = [torch.cat([values, torch.zeros_like(values)]) for values in found]
    assert reference.compare(padded, metadata).relative == 0
    assert reference.compare([found[0], torch.tensor([1, 1]), found[2]], metadata).relative > 0.1


def test_masks_and_label_maps_are_stored_completely_and_compactly():
    whole = replace(described(task="detect", input="image", outputs=("boxes", "labels", "scores", "masks")), batch=1)
    masks = torch.rand(3, 37, 64, generator=torch.Generator().manual_seed(0)) > 0.5
    found = (
        torch.rand(3, 4) + torch.tensor([0.0, 0, 1, 1]),
        torch.tensor([1, 1, 1]),
        torch.tensor([0.9, 0.5, 0.2]),
        masks,
    )
    reference = stored(ReferenceAnswer.create(PHOTO, whole, lambda image: found))
    assert torch.equal(reference.outputs[3], masks)
    assert reference.compare(found, whole).relative == 0
    assert reference.compare(found, whole).size == (38, 64)
    segmenter = replace(whole, task="segment", outputs=("label_map",))
    labels = torch.randint(256, (38, 64), dtype=torch.uint8)
    reference = stored(ReferenceAnswer.create(PHOTO, segmenter, lambda image: (labels,)))
    assert torch.equal(reference.outputs[0], labels)


def test_answered_keeps_the_image():
    metadata = described()
    reference = ReferenceAnswer.create(PHOTO, metadata, lambda images: (torch.zeros(1, 2),))
    other = reference.answered(metadata, lambda images: (images.float().mean((1, 2, 3))[:, None],))
    assert other.image == reference.image
    assert other.outputs[0].item() > 0
