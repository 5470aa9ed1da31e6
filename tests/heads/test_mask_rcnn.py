import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from tests.helpers.learning import backward, learn
from tests.helpers.shapes import average_precision, shapes_image, two_images
from transxnet.heads import MaskRCNN
from transxnet.heads.detector_transform import DetectorTransform


def small(body: nn.Module, num_classes: int = 2, size: int = 64) -> MaskRCNN:
    """A model with few regions, so that the tests are fast."""
    model = MaskRCNN(body, num_classes, min_size=size, max_size=96, detections_per_img=5)
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 16
    model.rpn._post_nms_top_n = dict(training=32, testing=32)
    return model


@pytest.fixture
def model(body) -> MaskRCNN:
    return small(body())


def test_every_parameter_learns(any_body):
    model = small(any_body())
    losses = backward(model, *two_images())
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask"}
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_without_objects_every_parameter_still_gets_a_gradient(model):
    images, targets = zip(shapes_image(64, 64, []), shapes_image(50, 90, []), strict=True)
    losses = backward(model, list(images), list(targets))
    assert losses["loss_rpn_box_reg"] == losses["loss_box_reg"] == losses["loss_mask"] == 0
    assert losses["loss_objectness"] > 0
    assert losses["loss_classifier"] > 0
    assert all(p.grad is not None for p in model.parameters())


def test_batch_mixes_images_with_and_without_objects(model):
    images, targets = zip(shapes_image(64, 64, []), shapes_image(40, 90, [(1, 5, 5, 30, 30)]), strict=True)
    losses = backward(model, list(images), list(targets))
    assert all(loss > 0 and loss.isfinite() for loss in losses.values())


def test_one_class_works(body):
    model = small(body(), num_classes=1)
    image, target = shapes_image(64, 64, [(1, 5, 5, 30, 30)])
    assert all(loss.isfinite() for loss in backward(model, [image] * 2, [target] * 2).values())
    with torch.no_grad():
        (found,) = model.eval()([image])
    assert set(found["labels"].tolist()) <= {1}


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (33, 95), (7, 200), (1, 1)])
def test_any_image_size_gives_boxes_inside_and_masks_of_its_size(model, size):
    model.roi_heads.score_thresh = 0.0
    height, width = size
    (found,) = model.eval()([torch.rand(3, height, width)])
    count = len(found["boxes"])
    assert 0 < count <= 5
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
    assert found["masks"].shape == (count, height, width)
    assert found["masks"].dtype == torch.bool
    assert (found["scores"].diff() <= 0).all()
    assert set(found["labels"].tolist()) <= {1, 2}


@torch.no_grad()
def test_no_detections_are_empty_tensors(model):
    model.roi_heads.score_thresh = 1.0
    sizes = [(64, 64), (30, 50)]
    for found, size in zip(model.eval()([torch.rand(3, *size) for size in sizes]), sizes, strict=True):
        assert {name: tuple(values.shape) for name, values in found.items()} == {
            "boxes": (0, 4), "scores": (0,), "labels": (0,), "masks": (0, *size)
        }  # fmt: skip


def test_the_settings_are_the_published_ones(body):
    model = MaskRCNN(body(), 80)
    rpn, heads = model.rpn, model.roi_heads
    assert rpn._pre_nms_top_n == dict(training=2000, testing=1000)
    assert rpn._post_nms_top_n == dict(training=1000, testing=1000)
    assert (rpn.nms_thresh, rpn.score_thresh) == (0.7, 0.0)
    matcher = rpn.proposal_matcher
    assert (matcher.high_threshold, matcher.low_threshold, matcher.min_quality) == (0.7, 0.3, 0.3)
    assert (rpn.fg_bg_sampler.batch_size_per_image, rpn.fg_bg_sampler.positive_fraction) == (256, 0.5)
    assert (heads.fg_bg_sampler.batch_size_per_image, heads.fg_bg_sampler.positive_fraction) == (512, 0.25)
    assert (heads.proposal_matcher.high_threshold, heads.proposal_matcher.low_threshold) == (0.5, 0.5)
    assert heads.proposal_matcher.min_quality == 0.5
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.05, 0.5, 100)
    assert (heads.box_roi_pool.output_size, heads.mask_roi_pool.output_size) == (7, 14)
    assert heads.mask_predictor(heads.mask_head(torch.zeros(1, 256, 14, 14))).shape == (1, 81, 28, 28)


def test_proposal_losses_are_cross_entropy_and_l1_over_a_sample(model):
    """One anchor of the object and two of the background: all are sampled."""
    labels = [torch.tensor([1.0, 0.0, 0.0, -1.0])]
    objectness, deltas = torch.tensor([[0.0], [0.0], [0.0], [9.0]]), torch.tensor([[0.1, 0, 0, 0.2]] + [[9.0] * 4] * 3)
    truth = [torch.tensor([[0.0, 0, 0.5, 0]] * 4)]
    score, box = model.rpn.compute_loss(objectness, deltas, labels, truth)
    assert score.item() == pytest.approx(0.693147, abs=1e-5)
    assert box.item() == pytest.approx((0.1 + 0.5 + 0.2) / 3, abs=1e-5)


def test_image_without_positive_anchors_counts_as_having_one(model):
    """Two images of 256 sampled anchors; the second has no object, and the losses are divided by 256 + 257."""
    labels = [torch.cat([torch.ones(100), torch.zeros(500)]), torch.zeros(600)]
    objectness, deltas = torch.zeros(1200, 1), torch.ones(1200, 4)
    truth = [torch.zeros(600, 4)] * 2
    score, box = model.rpn.compute_loss(objectness, deltas, labels, truth)
    assert score.item() == pytest.approx(math.log(2) * 512 / 513, rel=1e-5)
    assert box.item() == pytest.approx(4 * 100 / 513, rel=1e-5)


def test_anchors_in_the_padding_of_a_batch_are_ignored(model):
    """A 64x64 and a 64x128 image; plain loops over the cells and the rule of mmdetection's assigner for one object."""
    images, targets = zip(
        shapes_image(64, 64, [(1, 40, 8, 62, 60)]), shapes_image(32, 64, [(2, 5, 5, 20, 20)]), strict=True
    )
    small = DetectorTransform(64, 128, (0.0,) * 3, (1.0,) * 3)
    batch, moved = small(list(images), [dict(target) for target in targets])
    assert batch.tensors.shape[2:] == (64, 128)
    features = [torch.zeros(2, 256, 64 // stride, 128 // stride) for stride in (4, 8, 16, 32, 64)]
    anchors = model.rpn.anchor_generator(batch, features)
    labels, boxes = model.rpn.assign_targets_to_anchors(anchors, moved)
    for image, (height, width) in enumerate([(64, 64), (64, 128)]):
        assert moved[image]["padded_size"].tolist() == [width, height]
        valid = [
            row < height / stride and column < width / stride
            for stride in (4, 8, 16, 32, 64)
            for row in range(64 // stride)
            for column in range(128 // stride)
            for _ in range(3)
        ]
        overlaps = box_iou(moved[image]["boxes"], anchors[image])[0].tolist()
        best = max(overlap for overlap, kept in zip(overlaps, valid, strict=True) if kept)
        truth = [
            -1 if not kept
            else 1 if overlap >= 0.7 or (overlap == best >= 0.3)
            else 0 if overlap < 0.3
            else -1
            for overlap, kept in zip(overlaps, valid, strict=True)
        ]  # fmt: skip
        assert labels[image].tolist() == truth
        assert 1 in truth
        assert torch.equal(boxes[image][labels[image] == 1], moved[image]["boxes"].expand(truth.count(1), 4))


@torch.no_grad()
def test_proposals_are_the_anchors_moved_by_the_deltas(model, monkeypatch):
    """With outputs of zero the best proposals are anchors, clipped to the image; P6 has stride 64."""

    def answers(features):
        logits = [torch.full((1, 3, *f.shape[2:]), -5.0) for f in features]
        logits[4][0, 1, 0, 1] = 5.0  # the square anchor at the second location of P6
        return logits, [torch.zeros(1, 12, *f.shape[2:]) for f in features]

    monkeypatch.setattr(model.rpn.head, "forward", answers)
    features = {str(i): torch.zeros(1, 256, 512 >> (i + 2), 512 >> (i + 2)) for i in range(5)}
    (boxes,), _ = model.rpn.eval()(ImageList(torch.zeros(1, 3, 512, 512), [(512, 500)]), features)
    assert boxes[0].tolist() == [0, 0, 320, 256]  # 512x512 around (64, 0)


def test_half_precision_keeps_boxes_and_losses_in_float32(model):
    images, targets = two_images()
    with torch.autocast("cpu", torch.bfloat16):
        losses = backward(model, images, targets)
        model.roi_heads.score_thresh = 0.0
        with torch.no_grad():
            found = model.eval()(images)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert found[0]["boxes"].dtype == torch.float32


def test_invalid_input_is_an_error(model):
    images, targets = two_images()
    with pytest.raises(ValueError, match=r"training needs one target per image \(2\), got none"):
        model.train()(images)
    with pytest.raises(ValueError, match="target 0 has no masks; it has boxes, labels"):
        model.train()(images, [{n: v for n, v in t.items() if n != "masks"} for t in targets])


@pytest.mark.long
def test_overfits_two_images(model):
    images, targets = zip(
        shapes_image(64, 64, [(1, 8, 14, 40, 32)]), shapes_image(64, 64, [(2, 20, 8, 36, 44)]), strict=True
    )
    found = learn(model, list(images), list(targets), steps=120)
    assert average_precision(found, list(targets), "boxes") > 0.9
    assert average_precision(found, list(targets), "masks") > 0.9


@pytest.mark.long
def test_overfits_two_images_of_several_objects(body):
    model = small(body(), size=96)
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 32
    images, targets = two_images()
    found = learn(model, images, targets, steps=160)
    assert average_precision(found, targets, "boxes") > 0.9
    assert average_precision(found, targets, "masks") > 0.9
