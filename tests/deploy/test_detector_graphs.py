"""Traced detectors give the outputs of the models."""

import pytest
import torch
from torchvision.ops import roi_align

from tests.helpers.classifier_runs import draw
from tests.helpers.exports import described, mask_rcnn
from transxnet.deploy.detector_graphs import MaskRCNNGraph, RetinaNetGraph, pool, rank, suppress
from transxnet.deploy.export_graphs import InputNormalization
from transxnet.deploy.exportable_model import _found
from transxnet.deploy.verify import difference
from transxnet.heads import create_detector
from transxnet.heads.roi_heads import PyramidRoIAlign


@pytest.fixture
def plain() -> InputNormalization:
    return InputNormalization((0.0,) * 3, (1.0,) * 3, False, torch.float32)


@torch.no_grad()
def test_retinanet_gives_a_fixed_number_of_detections(plain):
    model = draw(create_detector("retinanet", "test_resnet", 3, min_size=64, max_size=96))
    model.score_thresh = 0.0
    model.head.classification_head.cls_logits.weight.normal_(std=0.3)
    image = torch.rand(1, 3, 64, 96)
    boxes, labels, scores = RetinaNetGraph(plain, model).eval()(image)
    assert boxes.shape == (model.detections_per_img, 4)
    (truth,) = model(list(image))
    count = len(truth["scores"])
    assert count > 10
    torch.testing.assert_close(scores[:count], truth["scores"], rtol=0, atol=1e-5)
    torch.testing.assert_close(boxes[:count], truth["boxes"], rtol=0, atol=1e-3)
    assert labels[:count].tolist() == truth["labels"].tolist()
    assert not scores[count:].any()


@torch.no_grad()
def test_boxes_without_area_rank_after_all_others(plain):
    """All boxes lie 100 anchor widths to the right, outside of the image."""
    model = draw(create_detector("retinanet", "test_resnet", 3, min_size=64, max_size=96))
    model.head.classification_head.cls_logits.bias.fill_(9)
    graph = RetinaNetGraph(plain, model).eval()
    assert graph(torch.rand(1, 3, 64, 96))[2].min() > 0.9
    graph.head.regression_head.bbox_reg.bias.view(-1, 4)[:, 0] = 100
    assert not graph(torch.rand(1, 3, 64, 96))[2].any()


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (32, 64)])
def test_mask_rcnn_gives_a_fixed_number_of_detections(size, plain):
    model, image = mask_rcnn(min_size=64, max_size=96), torch.rand(1, 3, *size)
    found, truth = MaskRCNNGraph(plain, model).eval()(image), _found(model, image)
    assert [each.shape for each in found] == [(100, 4), (100,), (100,), (100, 1, 28, 28)]
    assert len(truth[2]) > 10
    _, relative, agreement = difference(found, truth, described(task="detect"))
    assert relative < 1e-5 and agreement == 1
    count = len(truth[2])
    assert not found[1][count:].any() and not found[2][count:].any()


@torch.no_grad()
def test_proposals_are_kept_however_low_their_objectness(plain):
    """Runtimes compute a sigmoid below 1e-7 as 0, PyTorch one below 1e-45; the detector keeps such proposals."""
    model, image = mask_rcnn(min_size=64, max_size=96), torch.rand(1, 3, 64, 96)
    model.rpn.head.cls_logits.bias.sub_(200)
    found, truth = MaskRCNNGraph(plain, model).eval()(image), _found(model, image)
    assert len(truth[2]) > 10
    _, relative, agreement = difference(found, truth, described(task="detect"))
    assert relative < 1e-5 and agreement == 1


def test_scores_rank_as_their_logits():
    logits = torch.tensor([-339.0, -110.0, -18.0, -17.9, 0.0, 0.001, 90.0, 339.0])
    scores = rank(logits.half())
    assert scores.dtype == torch.float32 and scores.isfinite().all()
    assert scores[0] > 0 and (scores[1:] > scores[:-1]).all()


def test_regions_are_pooled_from_the_level_of_their_size():
    align = PyramidRoIAlign(7)
    maps = [torch.randn(1, 4, 256 // stride, 256 // stride) for stride in align.strides]
    boxes = torch.tensor([[3.0, 5.0, 40.0, 30.0], [10.0, 20.0, 150.0, 140.0], [0.0, 0.0, 255.0, 250.0]])
    assert align.levels(boxes).tolist() == [0, 1, 2]
    expected = align({str(i): x for i, x in enumerate(maps)}, [boxes])
    torch.testing.assert_close(pool(align, maps, boxes), expected)
    region = torch.cat([torch.zeros(1, 1), boxes[2:]], 1)
    third = roi_align(maps[2], region, (7, 7), 1 / 16, sampling_ratio=0, aligned=True)
    torch.testing.assert_close(pool(align, maps, boxes)[2:], third)


def test_only_boxes_of_one_group_suppress_each_other():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 3)
    groups, scores = torch.tensor([1, 0, 1]), torch.tensor([0.9, 0.8, 0.7])
    kept, groups, scores = suppress(boxes, groups, scores, 2, 0.5, 4)
    assert groups.tolist() == [1, 0, 0, 0]
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0, 0])
    assert kept[2:].tolist() == [[0] * 4] * 2
