import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from transxnet.data.loading.opencv_resize import opencv_resize
from transxnet.heads.detector_transform import (
    DetectorTransform,
    at_least_float32,
    float_images,
    mean_and_std,
    paste_masks,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def transform(min_size: int = 800, max_size: int = 1333) -> DetectorTransform:
    return DetectorTransform(min_size, max_size, MEAN, STD)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),  # 1066.67 is rounded, not truncated
        ((640, 480), (1067, 800)),
        ((500, 2000), (333, 1333)),  # limited by the longer side
        ((800, 1333), (800, 1333)),
        ((3, 3), (800, 800)),
        ((1, 4000), (1, 1333)),  # a third of a pixel
    ],
)
def test_images_are_resized_by_their_shorter_side_up_to_a_limit(size, expected):
    images, _ = transform().eval()([torch.zeros(3, *size)])
    assert images.image_sizes == [expected]
    padded = tuple(-(-side // 32) * 32 for side in expected)
    assert images.tensors.shape == (1, 3, *padded)


def test_batch_is_normalized_and_padded_with_the_mean():
    images = [torch.full((3, 20, 30), 0.5), torch.full((3, 40, 20), 0.25)]
    batch, _ = transform(20, 100)(images)
    assert batch.image_sizes == [(20, 30), (40, 20)]
    assert batch.tensors.shape == (2, 3, 64, 32)
    truth = (0.5 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(batch.tensors[0, :, 19, 29], truth, rtol=0, atol=1e-6)
    assert not batch.tensors[0, :, 20:].any()
    assert not batch.tensors[0, :, :, 30:].any()


@pytest.mark.parametrize("size", [(30, 47), (47, 30), (10, 60), (80, 90), (1, 400)])
def test_opencv_resize_gives_8_bit_pixels_before_normalization(size):
    image = torch.randint(256, (3, *size), dtype=torch.uint8)
    moved = transform(40, 70).eval()
    moved.opencv_resize = True
    batch, _ = moved([image / 255])
    height, width = batch.image_sizes[0]
    assert (height, width) == moved.resized_size(size)
    pixels = opencv_resize(image, (height, width)) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    torch.testing.assert_close(batch.tensors[0, :, :height, :width], (pixels - mean) / std, rtol=0, atol=1e-6)


def test_training_keeps_floating_point_pixels():
    image, target = torch.rand(3, 30, 47), dict(boxes=torch.tensor([[1.0, 2.0, 9.0, 8.0]]))
    rounding = transform(40, 70)
    rounding.opencv_resize = True
    assert torch.equal(rounding([image], [target])[0].tensors, transform(40, 70)([image], [target])[0].tensors)


def test_targets_hold_the_size_of_their_image_padded_on_its_own():
    images = [torch.zeros(3, 20, 30), torch.zeros(3, 40, 20), torch.zeros(3, 32, 64)]
    _, targets = transform(20, 100)(images, [dict(boxes=torch.zeros(0, 4)) for _ in images])
    assert [target["padded_size"].tolist() for target in targets] == [[32, 32], [32, 64], [64, 32]]


def test_resize_moves_boxes_and_masks_and_keeps_the_targets():
    masks = torch.zeros(1, 10, 20, dtype=torch.bool)
    masks[0, 2:5, 4:10] = True
    target = dict(boxes=torch.tensor([[4.0, 2.0, 10.0, 5.0]]), labels=torch.tensor([1]), masks=masks)
    _, (resized,) = transform(20, 100)([torch.zeros(3, 10, 20)], [target])
    assert resized["boxes"].tolist() == [[8, 4, 20, 10]]
    assert resized["masks"].shape == (1, 20, 40)
    assert torch.equal(resized["masks"][0].bool(), masks[0].repeat_interleave(2, 0).repeat_interleave(2, 1))
    assert target["boxes"].tolist() == [[4, 2, 10, 5]]
    assert target["masks"] is masks


def test_a_target_without_objects_keeps_its_shapes():
    target = dict(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), masks=torch.zeros(0, 10, 20) > 0)
    _, (resized,) = transform(20, 100)([torch.zeros(3, 10, 20)], [target])
    assert resized["boxes"].shape == (0, 4)
    assert resized["masks"].shape == (0, 20, 40)


def test_detections_are_in_pixels_of_the_original_image():
    found = dict(
        boxes=torch.tensor([[10.0, 20.0, 30.0, 60.0], [5.0, 5.0, 5.0, 9.0]]),
        scores=torch.tensor([0.9, 0.8]),
        labels=torch.tensor([1, 2]),
        masks=torch.ones(2, 1, 28, 28),
    )
    (result,) = transform().eval().postprocess([found], [(100, 200)], [(50, 50)])
    assert result["boxes"].tolist() == [[2.5, 10, 7.5, 30]]
    assert result["labels"].tolist() == [1]
    assert result["masks"].shape == (1, 50, 50)
    assert result["masks"].dtype == torch.bool


def test_mask_of_the_size_of_its_box_is_pasted_unchanged():
    mask = torch.rand(1, 28, 28)
    pasted = paste_masks(mask, torch.tensor([[3.0, 5.0, 31.0, 33.0]]), (40, 50))
    assert torch.equal(pasted[0, 5:33, 3:31], mask[0] >= 0.5)
    assert pasted.sum() == (mask >= 0.5).sum()


def test_masks_are_interpolated_at_pixel_centers_as_in_pillow():
    values = torch.rand(28, 28)
    pasted = paste_masks(values[None], torch.tensor([[0.0, 0.0, 112.0, 84.0]]), (84, 112))[0]
    enlarged = Image.fromarray(values.numpy()).resize((112, 84), Image.Resampling.BILINEAR)
    truth = torch.from_numpy(np.array(enlarged))
    inside = (slice(2, -2), slice(2, -2))  # at the border Pillow repeats the mask, while detectors pad with zeros
    wrong = (pasted != (truth >= 0.5))[inside] & ((truth - 0.5).abs() > 1e-4)[inside]
    assert not wrong.any()


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((-10.0, -10.0, 10.0, 10.0), slice(0, 10), slice(0, 10)),
        ((30.0, 15.0, 60.0, 45.0), slice(15, 20), slice(30, 40)),
        ((5.2, 5.2, 5.3, 9.0), slice(0, 0), slice(0, 0)),  # thinner than a pixel, and containing no pixel center
        ((50.0, 5.0, 60.0, 9.0), slice(0, 0), slice(0, 0)),
    ],
)
def test_boxes_may_reach_beyond_the_image_or_miss_it(box, rows, columns):
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([box]), (20, 40))[0]
    truth = torch.zeros(20, 40, dtype=torch.bool)
    truth[rows, columns] = True
    assert torch.equal(pasted, truth)


def test_paste_masks_of_no_masks_is_empty():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (20, 40)).shape == (0, 20, 40)


def test_images_are_normalized_as_the_backbone_expects():
    body = nn.Identity()
    assert mean_and_std(body) == (MEAN, STD)
    body.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    assert mean_and_std(body) == ((0.5,) * 3, (0.25,) * 3)


def test_only_half_precision_is_changed():
    assert at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_8_bits_become_unit_values_and_floats_are_unchanged():
    stored = torch.tensor([[[-3.5, 40_000.0]]])
    unit, values = float_images([torch.tensor([[[0, 255]]], dtype=torch.uint8), stored])
    assert unit.tolist() == [[[0.0, 1.0]]] and torch.equal(values, stored)
