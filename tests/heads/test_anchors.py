import math

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from transxnet.heads import MaskRCNN, RetinaNet
from transxnet.heads.anchors import AnchorMatcher, Anchors, BoxCoder, centers_inside

THIRD = 2 ** (1 / 3)


def at(anchors: Anchors, *sizes: tuple[int, int], dtype=torch.float32) -> torch.Tensor:
    """The anchors of an image with levels of these sizes."""
    features = [torch.zeros(1, 1, *size, dtype=dtype) for size in sizes]
    (boxes,) = anchors(ImageList(torch.zeros(1, 3, 800, 1344), [(800, 1333)]), features)
    return boxes


def test_location_has_each_ratio_in_each_size_around_its_center():
    """Computed by hand: width size / sqrt(ratio), height size * sqrt(ratio), ratios first."""
    boxes = at(Anchors([8], [[32, 32 * THIRD, 32 * THIRD**2]]), (1, 1))
    halves = [
        (22.6274, 11.3137), (28.5088, 14.2544), (35.9188, 17.9594),
        (16.0000, 16.0000), (20.1587, 20.1587), (25.3984, 25.3984),
        (11.3137, 22.6274), (14.2544, 28.5088), (17.9594, 35.9188),
    ]  # fmt: skip
    truth = torch.tensor([[-w, -h, w, h] for w, h in halves])
    torch.testing.assert_close(boxes, truth, rtol=0, atol=1e-4)


def test_locations_are_ordered_by_row_in_steps_of_the_stride():
    boxes = at(Anchors([16], [[32]]), (2, 3))
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centers[::3].tolist() == [[0, 0], [16, 0], [32, 0], [0, 16], [16, 16], [32, 16]]
    assert torch.equal(centers[::3], centers[1::3])


def test_coarse_levels_keep_their_stride_at_rounded_sizes():
    """At 800x1344 pixels, P6 is 13x21 and P7 is 7x11: 800 / 13 is 61, but the stride is 64."""
    boxes = at(Anchors([64, 128], [[256], [512]]), (13, 21), (7, 11))
    last_of_p6, last_of_p7 = boxes[13 * 21 * 3 - 2], boxes[-2]
    assert last_of_p6.tolist() == [20 * 64 - 128, 12 * 64 - 128, 20 * 64 + 128, 12 * 64 + 128]
    assert last_of_p7.tolist() == [10 * 128 - 256, 6 * 128 - 256, 10 * 128 + 256, 6 * 128 + 256]


def test_half_precision_does_not_move_anchors():
    anchors = Anchors([8], [[32, 32 * THIRD]])
    assert torch.equal(at(anchors, (100, 160), dtype=torch.bfloat16), at(anchors, (100, 160)))


def test_detectors_have_the_published_anchors(body):
    retinanet = RetinaNet(body((1, 2, 3)), 2).anchor_generator
    assert retinanet.strides == (8, 16, 32, 64, 128)
    assert retinanet.num_anchors_per_location() == [9] * 5
    for size, sizes in zip((32, 64, 128, 256, 512), retinanet.sizes, strict=True):
        assert sizes == pytest.approx([size, size * THIRD, size * THIRD**2])
    mask_rcnn = MaskRCNN(body(), 2).rpn.anchor_generator
    assert mask_rcnn.strides == (4, 8, 16, 32, 64)
    assert mask_rcnn.sizes == ((32,), (64,), (128,), (256,), (512,))
    assert mask_rcnn.num_anchors_per_location() == [3] * 5
    area = (mask_rcnn.cell_anchors[2][:, 2:] - mask_rcnn.cell_anchors[2][:, :2]).prod(1)
    assert area.tolist() == pytest.approx([128**2] * 3)
    assert math.isclose(mask_rcnn.cell_anchors[2][0, 3] / mask_rcnn.cell_anchors[2][0, 2], 0.5, abs_tol=1e-6)


def test_anchors_of_cells_in_the_padding_are_outside():
    """A cell of a level is valid if its index is below the image's padded side divided by the stride, rounded up."""
    strides, (height, width) = (4, 8, 16, 32, 64), (96, 160)
    anchors = Anchors(strides, [[8 * stride] for stride in strides])
    sizes = [(-(-224 // stride), -(-224 // stride)) for stride in strides]
    truth = [
        row < math.ceil(height / stride) and column < math.ceil(width / stride)
        for stride, (rows, columns) in zip(strides, sizes, strict=True)
        for row in range(rows)
        for column in range(columns)
        for _ in range(3)
    ]
    assert centers_inside(at(anchors, *sizes), torch.tensor([width, height])).tolist() == truth


def test_boxes_change_size_by_a_factor_of_at_most_62_5():
    """1000 / 16 = 62.5, in both directions; the box is 100x50 around (50, 25)."""
    anchor = torch.tensor([[0.0, 0.0, 100.0, 50.0]])
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    (small,), (large,), (other,) = (
        coder.decode_single(torch.tensor([[0.0, 0.0, *sizes]]), anchor)
        for sizes in ([-1e9, -1e3], [1e9, 1e3], [-5 * math.log(62.4), 5 * math.log(2)])
    )
    torch.testing.assert_close(small, torch.tensor([49.2, 24.6, 50.8, 25.4]), rtol=0, atol=1e-5)
    torch.testing.assert_close(large, torch.tensor([-3075.0, -1537.5, 3175.0, 1587.5]), rtol=1e-5, atol=0)
    width = 100 / 62.4
    torch.testing.assert_close(other, torch.tensor([50 - width / 2, -25, 50 + width / 2, 75]), rtol=0, atol=1e-4)


def test_deltas_of_several_classes_are_decoded_separately():
    coder, deltas = BoxCoder((10.0, 10.0, 5.0, 5.0)), torch.randn(6, 12) * 30
    anchors = torch.rand(6, 4) * 50 + torch.tensor([0.0, 0.0, 50.0, 50.0])
    parts = [coder.decode_single(part, anchors) for part in deltas.split(4, 1)]
    torch.testing.assert_close(coder.decode_single(deltas, anchors), torch.cat(parts, 1))
    assert coder.decode(deltas[:0], [anchors[:0]]).shape[0] == 0


BACKGROUND, BETWEEN = -1, -2


@pytest.mark.parametrize(
    ("iou", "min_quality", "expected"),
    [
        # above, between and below the thresholds; the best anchor of the object is above anyway
        ([[0.8, 0.5, 0.45, 0.39]], 0.0, [0, 0, BETWEEN, BACKGROUND]),
        # an object without an anchor above the threshold gets all of its best anchors
        ([[0.2, 0.3, 0.3, 0.1]], 0.0, [BACKGROUND, 0, 0, BACKGROUND]),
        ([[0.2, 0.45, 0.45, 0.1]], 0.0, [BACKGROUND, 0, 0, BACKGROUND]),
        # unless they are below the minimum quality
        ([[0.2, 0.29, 0.1, 0.1]], 0.3, [BACKGROUND] * 4),
        # these may overlap another object more
        ([[0.9, 0.6, 0.0], [0.1, 0.4, 0.2]], 0.0, [0, 1, BACKGROUND]),
        # an object that overlaps no anchor gets none
        ([[0.0, 0.0, 0.0], [0.0, 0.7, 0.0]], 0.0, [BACKGROUND, 1, BACKGROUND]),
        # if two objects share their best anchor, the later object gets it
        ([[0.6, 0.1], [0.6, 0.1]], 0.0, [1, BACKGROUND]),
    ],
)
def test_anchors_are_matched_by_overlap(iou, min_quality, expected):
    assert AnchorMatcher(0.5, 0.4, min_quality)(torch.tensor(iou)).tolist() == expected


def test_no_anchors_match_no_object():
    assert AnchorMatcher(0.5, 0.5, 0.5)(torch.zeros(2, 0)).shape == (0,)
