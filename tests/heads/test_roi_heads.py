import math

import pytest
import torch
from torchvision.ops import box_iou

from transxnet.heads import MaskRCNN
from transxnet.heads.roi_heads import PyramidRoIAlign, mask_targets

STRIDES = (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (10, 10, 0),
        (111.9, 111.9, 0),
        (112, 112, 1),
        (56, 224, 1),  # only the area matters
        (223.9, 223.9, 1),
        (224, 224, 2),
        (447.9, 447.9, 2),
        (448, 448, 3),
        (2000, 2000, 3),
        (0, 5, 0),
    ],
)
def test_level_depends_on_the_square_root_of_the_area(width, height, level):
    """Lin et al., Eq. 1: 224 pixels map to P4, the third level here; each factor of two is one level."""
    assert PyramidRoIAlign(7).levels(torch.tensor([[3.0, 5.0, 3.0 + width, 5.0 + height]])).tolist() == [level]


def ramps(height: int, width: int) -> dict[str, torch.Tensor]:
    """Features of two images holding the image coordinates of their cell centers, plus 1000 for the second image."""
    levels = {}
    for stride in STRIDES:
        ys, xs = torch.meshgrid(*((torch.arange(n // stride) + 0.5) * stride for n in (height, width)), indexing="ij")
        levels[str(stride)] = torch.stack([torch.stack([xs, ys]), torch.stack([xs, ys]) + 1000])
    return levels


@pytest.mark.parametrize("box", [(20.0, 30.0, 90.0, 79.0), (40.0, 64.5, 215.0, 190.0), (100.0, 90.0, 401.5, 400.0)])
def test_regions_are_sampled_at_their_position(box):
    """On each level, the mean of a linear ramp over a cell is its value at the cell's center."""
    x1, y1, x2, y2 = box
    pooled = PyramidRoIAlign(7)(ramps(512, 640), [torch.zeros(0, 4), torch.tensor([box])])
    cells = (torch.arange(7) + 0.5) / 7
    xs, ys = x1 + cells * (x2 - x1), y1 + cells * (y2 - y1)
    assert pooled.shape == (1, 2, 7, 7)
    torch.testing.assert_close(pooled[0, 0], xs.expand(7, 7) + 1000, rtol=0, atol=1e-3)
    torch.testing.assert_close(pooled[0, 1], ys[:, None].expand(7, 7) + 1000, rtol=0, atol=1e-3)


def test_regions_of_several_images_and_levels_stay_in_order():
    features = {**ramps(512, 640), "p6": torch.full((2, 2, 8, 10), math.nan)}
    large, small = [0.0, 0.0, 500.0, 500.0], [50.0, 60.0, 90.0, 80.0]
    means = PyramidRoIAlign(14)(features, [torch.tensor([large, small]), torch.tensor([small])]).mean((2, 3))
    truth = torch.tensor([[250.0, 250.0], [70.0, 70.0], [1070.0, 1070.0]])
    torch.testing.assert_close(means, truth, rtol=0, atol=2.0)  # the first box touches the image border, where maps end


def test_small_images_do_not_affect_later_batches():
    """torchvision infers the strides of the levels from the sizes of the first batch."""
    pool, box = PyramidRoIAlign(7), torch.tensor([[20.0, 30.0, 90.0, 79.0]])
    pool({str(s): torch.zeros(1, 2, -(-40 // s), -(-40 // s)) for s in STRIDES}, [torch.tensor([[0.0, 0.0, 9.0, 9.0]])])
    features = ramps(512, 640)
    assert torch.equal(pool(features, [box]), PyramidRoIAlign(7)(features, [box]))


def test_pooling_is_in_float32_and_takes_no_regions():
    features = {name: level.bfloat16() for name, level in ramps(64, 64).items()}
    assert PyramidRoIAlign(7)(features, [torch.tensor([[1.0, 2.0, 30.0, 40.0]])]).dtype == torch.float32
    assert PyramidRoIAlign(7)(features, [torch.zeros(0, 4)]).shape == (0, 2, 7, 7)


def test_mask_of_the_size_of_its_box_is_its_target():
    masks = torch.rand(2, 40, 50) > 0.5
    cut = mask_targets(masks, torch.tensor([[3.0, 5.0, 31.0, 33.0]]), torch.tensor([1]), 28)
    assert torch.equal(cut[0], masks[1, 5:33, 3:31])


def test_a_mask_is_cut_where_its_box_is_and_halves_count():
    masks = torch.zeros(1, 56, 56, dtype=torch.uint8)
    masks[:, :, :28] = 1
    cut = mask_targets(masks, torch.tensor([[0.0, 0.0, 56.0, 56.0], [14.0, 0.0, 42.0, 28.0]]), torch.tensor([0, 0]), 28)
    assert cut.all(1).tolist() == [[True] * 14 + [False] * 14] * 2


@pytest.fixture
def heads(body):
    return MaskRCNN(body(), num_classes=2).roi_heads


def test_boxes_are_decoded_in_units_of_a_tenth_and_a_fifth(heads):
    """Computed by hand: the proposal is 40x80 around (30, 60)."""
    deltas = torch.zeros(1, 3, 4)
    deltas[0, 2] = torch.tensor([1.0, -0.5, 5 * math.log(2), -5 * math.log(2)])
    logits = torch.tensor([[0.0, 0.0, 5.0]])
    boxes, scores, labels = heads.postprocess_detections(
        logits, deltas.flatten(1), [torch.tensor([[10.0, 20.0, 50.0, 100.0]])], [(200, 300)]
    )
    # center (30 + 0.1 * 40, 60 - 0.05 * 80), width 40 * 2, height 80 / 2; clipped to the image
    torch.testing.assert_close(boxes[0][0], torch.tensor([0.0, 36.0, 74.0, 76.0]), rtol=0, atol=1e-4)
    assert labels[0].tolist()[0] == 2
    assert scores[0][0].item() == pytest.approx(math.exp(5) / (math.exp(5) + 2))


def test_best_proposal_of_an_object_belongs_to_it(heads):
    """IoU 0.80 with the first object and 0.63 with the second, which has no better proposal."""
    objects = torch.tensor([[0.0, 0.0, 100.0, 100.0], [30.0, 0.0, 140.0, 100.0]])
    proposals = torch.tensor([[10.0, 0.0, 112.0, 100.0], [1.0, 0.0, 100.0, 100.0]])
    (matches,), (labels,) = heads.assign_targets_to_proposals(
        [torch.cat([proposals, objects])], [objects], [torch.tensor([1, 2])]
    )
    assert matches.tolist() == [1, 0, 0, 1]
    assert labels.tolist() == [2, 1, 1, 2]


def test_best_proposal_below_the_threshold_is_background(heads):
    """IoU 0.4."""
    box = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    proposals = torch.tensor([[0.0, 0.0, 100.0, 40.0], [0.0, 0.0, 100.0, 100.0]])
    (_,), (labels,) = heads.assign_targets_to_proposals([proposals], [box], [torch.tensor([2])])
    assert labels.tolist() == [0, 2]


def test_equal_boxes_of_two_objects_keep_their_labels(heads):
    box = torch.tensor([[0.0, 0.0, 50.0, 50.0]] * 2)
    (matches,), (labels,) = heads.assign_targets_to_proposals([box], [box], [torch.tensor([1, 2])])
    assert matches.tolist() == [0, 1]
    assert labels.tolist() == [1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_proposals_are_matched_by_the_published_rule(heads, seed):
    """Plain loops: an IoU of 0.5 with the best object; then each object in order takes its best proposals from 0.5."""
    generator = torch.Generator().manual_seed(seed)
    objects = torch.rand(12, 4, generator=generator) * 40 + torch.tensor([0.0, 0.0, 60.0, 60.0])
    proposals = torch.rand(8, 4, generator=generator) * 40 + torch.tensor([0.0, 0.0, 60.0, 60.0])
    labels = torch.randint(1, 3, (12,), generator=generator)
    overlaps = box_iou(objects, proposals).tolist()
    owners = []
    for column in zip(*overlaps, strict=True):
        owner = column.index(max(column)) if max(column) >= 0.5 else None
        for number, row in enumerate(overlaps):
            if max(row) >= 0.5 and column[number] == max(row):
                owner = number
        owners.append(owner)
    (matches,), (found,) = heads.assign_targets_to_proposals([torch.cat([proposals, objects])], [objects], [labels])
    assert found.tolist() == [0 if owner is None else labels[owner].item() for owner in owners] + labels.tolist()
    positive = [n for n, owner in enumerate(owners) if owner is not None]
    assert matches[positive].tolist() == [owners[n] for n in positive]
    nearest = box_iou(objects, proposals).argmax(0).tolist()
    assert any(owners[n] != nearest[n] for n in positive)


def test_images_without_proposals_or_objects_are_matched(heads):
    box, none = torch.tensor([[0.0, 0.0, 50.0, 50.0]]), torch.zeros(0, 4)
    matches, labels = heads.assign_targets_to_proposals(
        [box, box, none], [box, none, none], [torch.tensor([2]), *[torch.zeros(0, dtype=torch.int64)] * 2]
    )
    assert [m.tolist() for m in matches] == [[0], [0], []]
    assert [n.tolist() for n in labels] == [[2], [0], []]


def test_losses_of_zero_outputs_have_known_values(heads, monkeypatch):
    """A proposal 4 pixels next to a 40x40 box, and the box itself, which is added to the proposals."""
    monkeypatch.setattr(heads, "classify", lambda features, boxes: (torch.zeros(2, 3), torch.zeros(2, 12)))
    monkeypatch.setattr(heads, "segment", lambda features, boxes: torch.zeros(2, 3, 28, 28))
    box, masks = torch.tensor([[10.0, 10.0, 50.0, 50.0]]), torch.ones(1, 64, 64, dtype=torch.bool)
    truth = dict(boxes=box, labels=torch.tensor([2]), masks=masks)
    losses = heads.train()({}, [torch.tensor([[14.0, 10.0, 54.0, 50.0]])], [(64, 64)], [truth])[1]
    assert losses["loss_classifier"].item() == pytest.approx(math.log(3))
    assert losses["loss_box_reg"].item() == pytest.approx(10 * 4 / 40 / 2)  # in tenths of the width, over two proposals
    assert losses["loss_mask"].item() == pytest.approx(math.log(2))


def test_proposals_without_an_object_are_background(heads, monkeypatch):
    logits = torch.tensor([[math.log(2), 0, 0]])
    monkeypatch.setattr(heads, "classify", lambda features, boxes: (logits, torch.ones(1, 12)))
    monkeypatch.setattr(heads, "segment", lambda features, boxes: torch.ones(0, 3, 28, 28))
    empty = dict(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), masks=torch.zeros(0, 64, 64) > 0)
    losses = heads.train()({}, [torch.tensor([[14.0, 10.0, 54.0, 50.0]])], [(64, 64)], [empty])[1]
    assert losses["loss_classifier"].item() == pytest.approx(math.log(2))
    assert losses["loss_box_reg"] == losses["loss_mask"] == 0
