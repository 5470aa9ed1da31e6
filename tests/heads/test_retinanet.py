import math

import pytest
import timm
import torch

from tests.helpers.learning import backward, learn
from tests.helpers.shapes import average_precision, shapes_image, two_images
from transxnet import UserError
from transxnet.heads import RetinaNet

STAGES = (1, 2, 3)


@pytest.fixture
def model(body) -> RetinaNet:
    return RetinaNet(body(STAGES), num_classes=2, min_size=64, max_size=96)


def without_objects(height: int, width: int) -> tuple[torch.Tensor, dict]:
    return shapes_image(height, width, [])


def test_every_parameter_learns(any_body):
    model = RetinaNet(any_body(STAGES), num_classes=2, min_size=64, max_size=96)
    losses = backward(model, *two_images())
    assert set(losses) == {"classification", "bbox_regression"}
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_without_objects_every_parameter_still_gets_a_gradient(model):
    images, targets = zip(without_objects(64, 64), without_objects(50, 90), strict=True)
    losses = backward(model, list(images), list(targets))
    assert losses["bbox_regression"] == 0
    assert losses["classification"] > 0
    assert all(p.grad is not None for p in model.parameters())


def test_batch_mixes_images_with_and_without_objects(model):
    images, targets = zip(without_objects(64, 64), shapes_image(40, 90, [(1, 5, 5, 30, 30)]), strict=True)
    losses = backward(model, list(images), list(targets))
    assert all(loss > 0 and loss.isfinite() for loss in losses.values())


def test_one_class_works(body):
    model = RetinaNet(body(STAGES), num_classes=1, min_size=64, max_size=96)
    assert model.head.classification_head.cls_logits.out_channels == 9
    image, target = shapes_image(64, 64, [(1, 5, 5, 30, 30)])
    assert all(loss.isfinite() for loss in backward(model, [image] * 2, [target] * 2).values())
    model.score_thresh = 0.0
    with torch.no_grad():
        (found,) = model.eval()([image])
    assert set(found["labels"].tolist()) == {1}


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (33, 95), (7, 200), (1, 1), (300, 20)])
def test_images_of_any_size_give_boxes_inside_them(model, size):
    model.score_thresh = 0.0
    height, width = size
    (found,) = model.eval()([torch.rand(3, height, width)])
    assert 0 < len(found["boxes"]) <= 100
    assert found["boxes"].shape == (len(found["scores"]), 4)
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= torch.tensor([width, height, width, height]) + 1e-3).all()
    assert (found["boxes"][:, 2:] > found["boxes"][:, :2]).all()
    assert (found["scores"].diff() <= 0).all()
    assert set(found["labels"].tolist()) <= {1, 2}


@torch.no_grad()
def test_no_detections_are_empty_tensors(model):
    model.score_thresh = 1.0
    (first, second) = model.eval()([torch.rand(3, 64, 64), torch.rand(3, 30, 50)])
    for found in (first, second):
        assert {name: tuple(values.shape) for name, values in found.items()} == {
            "boxes": (0, 4), "scores": (0,), "labels": (0,)
        }  # fmt: skip


def test_initial_scores_equal_the_prior(model):
    """Lin et al., Sec. 4.1: 0.01, so that the background does not dominate the first steps."""
    with torch.no_grad():
        head = model.eval().head([torch.zeros(1, 256, 2, 2)])
    torch.testing.assert_close(head["cls_logits"].sigmoid(), torch.full((1, 36, 2), 0.01), rtol=0, atol=1e-4)


# The losses and the decoding against hand-computed values

ANCHORS = torch.tensor([[0.0, 0, 40, 40], [10, 0, 50, 40], [18, 0, 58, 40], [200, 200, 240, 240]])


def given(box: list[float], label: int) -> dict:
    return dict(boxes=torch.tensor([box]), labels=torch.tensor([label]), padded_size=torch.tensor([256, 256]))


def focal(logit: float, positive: bool) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -0.25 * (1 - p) ** 2 * math.log(p) if positive else -0.75 * p**2 * math.log(1 - p)


def iou(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def deltas(anchor: list[float], box: list[float]) -> list[float]:
    """Girshick et al., "R-CNN", Appendix C."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    return [
        (box[0] + box[2] - anchor[0] - anchor[2]) / 2 / width,
        (box[1] + box[3] - anchor[1] - anchor[3]) / 2 / height,
        math.log((box[2] - box[0]) / width),
        math.log((box[3] - box[1]) / height),
    ]


def test_losses_match_the_paper_over_positive_anchors(model):
    """IoU with the object: 1; 0.6; 22 / 58, background; 0. Two anchors are matched to it."""
    logits = torch.tensor([[0.5, -2.0], [1.0, -1.0], [0.3, -0.7], [-3.0, 2.0]])
    deltas = torch.tensor([[0.1, 0.0, 0.0, -0.2], [0.0, 0.0, 0.3, 0.0], [9.0, 9, 9, 9], [9.0, 9, 9, 9]])
    outputs = {"cls_logits": logits[None], "bbox_regression": deltas[None]}
    losses = model.compute_loss([given([0.0, 0.0, 40.0, 40.0], 2)], outputs, [ANCHORS])

    truth = {(0, 1), (1, 1)}  # anchor, class
    total = sum(focal(logits[a, c].item(), (a, c) in truth) for a in range(4) for c in range(2))
    assert losses["classification"].item() == pytest.approx(total / 2, abs=1e-5)
    # The second anchor's center is 10 to the right of the object's, a quarter of its width.
    boxes = [0.1 + 0.2, 0.25 + 0.3]
    assert losses["bbox_regression"].item() == pytest.approx(sum(boxes) / 2, abs=1e-5)


def test_anchors_between_the_thresholds_are_ignored(model):
    """The third anchor has an IoU of 22 / 58 with the box of the first, and 26 / 54 with that box moved by 4."""
    logits = torch.zeros(4, 2)
    logits[2] = 50  # would cost much as background
    outputs = {"cls_logits": logits[None], "bbox_regression": torch.zeros(1, 4, 4)}
    losses = model.compute_loss([given([4.0, 0.0, 44.0, 40.0], 1)], outputs, [ANCHORS])
    assert losses["classification"] < 1


def test_the_batch_shares_one_count_of_positive_anchors(model):
    outputs = {"cls_logits": torch.zeros(2, 4, 2), "bbox_regression": torch.zeros(2, 4, 4)}
    empty = given([0.0, 0.0, 1.0, 1.0], 1)
    empty.update(boxes=empty["boxes"][:0], labels=empty["labels"][:0])
    losses = model.compute_loss([given([0.0, 0.0, 40.0, 40.0], 1), empty], outputs, [ANCHORS, ANCHORS])
    ln2 = math.log(2)
    positives, negatives = 2 * 0.25 * 0.25 * ln2, 14 * 0.75 * 0.25 * ln2
    assert losses["classification"].item() == pytest.approx((positives + negatives) / 3, abs=1e-5)
    assert losses["bbox_regression"].item() == pytest.approx(0.25 / 3, abs=1e-5)


def test_loss_of_mixed_shapes_follows_the_published_rules(model):
    """A landscape and a portrait image share a batch of 96x96; plain loops over all anchors, as mmdetection describes.

    Each image is padded to a multiple of 32 on its own first. Grid cells that start outside of that size are invalid:
    they are neither background nor any object's best anchor.
    """
    images, targets = zip(
        shapes_image(40, 90, [(1, 5, 5, 30, 30), (2, 60, 8, 84, 36)]),
        shapes_image(90, 40, [(2, 8, 50, 34, 84)]),
        strict=True,
    )
    model.double()
    batch, moved = model.transform([image.double() for image in images], [dict(target) for target in targets])
    features = list(model.backbone(batch.tensors).values())
    outputs, anchors = model.head(features), model.anchor_generator(batch, features)
    outputs = {name: values + torch.randn_like(values) for name, values in outputs.items()}
    losses = model.compute_loss(moved, outputs, anchors)

    classification, regression, count, ignored = 0.0, 0.0, 0, 0
    for i, (height, width) in enumerate(batch.image_sizes):
        padded_height, padded_width = (math.ceil(side / 32) * 32 for side in (height, width))
        valid = []
        for feature, stride in zip(features, (8, 16, 32, 64, 128), strict=True):
            rows, columns = math.ceil(padded_height / stride), math.ceil(padded_width / stride)
            for row in range(feature.shape[2]):
                for column in range(feature.shape[3]):
                    valid += [row < rows and column < columns] * 9
        numbers = [n for n, kept in enumerate(valid) if kept]
        ignored += len(valid) - len(numbers)
        boxes = anchors[i].tolist()
        objects = moved[i]["boxes"].tolist()
        overlaps = [[iou(box, boxes[n]) for n in numbers] for box in objects]
        positive = 0
        for n, column in zip(numbers, zip(*overlaps, strict=True), strict=True):
            assigned = column.index(max(column)) if max(column) >= 0.5 else None
            for number, row in enumerate(overlaps):
                if column[number] == max(row):
                    assigned = number
            if assigned is None and max(column) >= 0.4:
                continue
            label = None if assigned is None else moved[i]["labels"][assigned].item() - 1
            for k, logit in enumerate(outputs["cls_logits"][i, n].tolist()):
                classification += focal(logit, k == label)
            if assigned is not None:
                positive += 1
                truth = deltas(boxes[n], objects[assigned])
                found = outputs["bbox_regression"][i, n].tolist()
                regression += sum(abs(a - b) for a, b in zip(truth, found, strict=True))
        count += max(positive, 1)
    assert ignored > 0
    assert losses["classification"].item() == pytest.approx(classification / count, rel=1e-6)
    assert losses["bbox_regression"].item() == pytest.approx(regression / count, rel=1e-5)


def test_boxes_are_decoded_in_units_of_their_anchor(model):
    """Computed by hand: the anchor is 40x40 around (30, 20); labels start from 1."""
    logits = torch.full((1, 4, 2), -9.0)
    logits[0, 1, 1] = 0.0
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 1] = torch.tensor([0.5, 0.25, math.log(0.5), math.log(2)])
    outputs = {"cls_logits": [logits], "bbox_regression": [deltas]}
    (found,) = model.postprocess_detections(outputs, [[ANCHORS]], [(64, 64)])
    # center (30 + 20, 20 + 10), 20 wide, 80 high, clipped to the image
    torch.testing.assert_close(found["boxes"], torch.tensor([[40.0, 0.0, 60.0, 64.0]]), rtol=0, atol=1e-4)
    assert found["labels"].tolist() == [2]
    assert found["scores"].tolist() == [0.5]


def test_only_overlapping_boxes_of_the_same_class_are_suppressed(model):
    logits = torch.full((1, 4, 2), -9.0)
    logits[0, 0, 0], logits[0, 1, 0], logits[0, 1, 1] = 2.0, 1.0, 0.0
    outputs = {"cls_logits": [logits], "bbox_regression": [torch.zeros(1, 4, 4)]}
    (found,) = model.postprocess_detections(outputs, [[ANCHORS]], [(300, 300)])
    assert found["labels"].tolist() == [1, 2]
    assert found["boxes"].tolist() == [[0, 0, 40, 40], [10, 0, 50, 40]]


def test_boxes_without_area_do_not_displace_others(model):
    """The anchor with the best score is right of the image, so its clipped box has no width."""
    model.detections_per_img = 1
    logits = torch.full((1, 4, 2), -9.0)
    logits[0, 3, 0], logits[0, 1, 1] = 2.0, 1.0
    outputs = {"cls_logits": [logits], "bbox_regression": [torch.zeros(1, 4, 4)]}
    (found,) = model.postprocess_detections(outputs, [[ANCHORS]], [(300, 100)])
    assert found["labels"].tolist() == [2]
    assert found["boxes"].tolist() == [[10, 0, 50, 40]]


def test_postprocessing_settings_are_the_published_ones(body):
    model = RetinaNet(body(STAGES), num_classes=2)
    assert (model.score_thresh, model.nms_thresh, model.topk_candidates, model.detections_per_img) == (
        0.05, 0.5, 1000, 100
    )  # fmt: skip


# Precision and inputs


def test_half_precision_keeps_boxes_and_losses_in_float32(model):
    images, targets = two_images()
    with torch.autocast("cpu", torch.bfloat16):
        losses = backward(model, images, targets)
        model.score_thresh = 0.0
        with torch.no_grad():
            found = model.eval()(images)
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert found[0]["boxes"].dtype == torch.float32


def test_invalid_input_is_an_error(model):
    images, targets = two_images()
    with pytest.raises(ValueError, match=r"training needs one target per image \(2\), got none"):
        model.train()(images)
    targets[0]["labels"][0] = 3
    with pytest.raises(ValueError, match="the labels of target 0 must be from 1 to 2"):
        model.train()(images, targets)
    with pytest.raises(ValueError, match="images must be a list"):
        model.eval()(torch.zeros(1, 3, 64, 64))


def test_body_with_a_single_resolution_is_refused():
    with pytest.raises(UserError, match="the head needs feature maps of strides 8, 16, 32"):
        RetinaNet(timm.create_model("test_vit", features_only=True), 2)


# Learning


@pytest.mark.long
def test_overfits_two_images(body):
    model = RetinaNet(body(STAGES), num_classes=2, min_size=96, max_size=96)
    images, targets = two_images()
    assert average_precision(learn(model, images, targets, steps=70), targets) > 0.9
