import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from transxnet.data.loading.dense_transforms import (
    MEAN_COLOUR,
    AlignedResize,
    CategoryCrop,
    PadTo,
    PhotometricDistortion,
    RandomRatioResize,
    detection_training,
    evaluation_scale,
    fitted_size,
    segmentation_training,
)
from transxnet.data.loading.opencv_resize import opencv_resize


def scene(height: int = 20, width: int = 30):
    """An image with two objects as bright as the values of their masks."""
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    masks[0, 2:8, 3:12] = 1
    masks[1, 10:11, 20:30] = 1
    image = (masks.sum(0, keepdim=True) * 200).expand(3, -1, -1).to(torch.uint8).clone()
    target = {
        "boxes": tv_tensors.BoundingBoxes(
            torch.tensor([[3.0, 2, 12, 8], [20, 10, 30, 11]]), format="XYXY", canvas_size=(height, width)
        ),
        "labels": torch.tensor([4, 9]),
        "area": torch.tensor([54.0, 10]),
        "iscrowd": torch.tensor([0, 0]),
        "image_id": 17,
        "masks": tv_tensors.Mask(masks),
    }
    return tv_tensors.Image(image), target


@pytest.mark.parametrize(("hflip", "vflip"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_flips_move_image_boxes_and_masks_together(hflip, vflip):
    image, target = detection_training(hflip=hflip, vflip=vflip)(*scene())
    assert image.shape == (3, 20, 30)
    assert image.dtype == torch.uint8
    assert target["labels"].tolist() == [4, 9]
    assert target["image_id"] == 17
    for mask, (left, top, right, bottom) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
        rows, columns = np.nonzero(mask.numpy())
        assert (left, top, right, bottom) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert torch.equal(image[0] > 0, target["masks"].any(0))
    assert target["boxes"][0, 0] == (18 if hflip else 3)
    assert target["boxes"][0, 1] == (12 if vflip else 2)


def test_half_of_the_images_are_flipped():
    transform = detection_training()
    flipped = sum(transform(*scene())[1]["boxes"][0, 0].item() == 18 for _ in range(200))
    assert 70 < flipped < 130


def test_objects_below_one_pixel_are_dropped_with_their_masks():
    image, target = scene()
    target["boxes"][0] = torch.tensor([3, 2, 3.5, 8])
    _, target = detection_training()(image, target)
    assert target["labels"].tolist() == [9]
    assert target["area"].tolist() == [10]
    assert {len(target[name]) for name in ("boxes", "labels", "area", "iscrowd", "masks")} == {1}


def test_images_without_objects_pass():
    image, target = scene()
    empty = {name: value[:0] if isinstance(value, torch.Tensor) else value for name, value in target.items()}
    empty["boxes"] = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(20, 30))
    empty["masks"] = tv_tensors.Mask(torch.zeros(0, 20, 30, dtype=torch.uint8))
    _, target = detection_training(hflip=1, vflip=1, photometric=True)(image, empty)
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 20, 30)


def test_photometric_augmentation_changes_colors_only():
    image, target = scene()
    image = tv_tensors.Image(torch.randint(0, 256, image.shape, dtype=torch.uint8))
    changed, kept = zip(*(detection_training(hflip=0, photometric=True)(image, target) for _ in range(8)), strict=True)
    assert any(not torch.equal(c, image) for c in changed)
    assert all(torch.equal(k["masks"], target["masks"]) and torch.equal(k["boxes"], target["boxes"]) for k in kept)


def test_channels_are_never_swapped():
    red = tv_tensors.Image(torch.tensor([200, 20, 20], dtype=torch.uint8)[:, None, None].expand(3, 4, 4).clone())
    for _ in range(60):
        assert PhotometricDistortion()(red)[:, 0, 0].argmax() == 0


@pytest.mark.parametrize(
    ("size", "scale", "fitted"),
    [
        ((512, 683), (2048, 512), [512, 683]),
        ((256, 256), (2048, 512), [512, 512]),
        ((100, 1000), (2048, 512), [205, 2048]),
        ((1000, 100), (2048, 512), [2048, 205]),
        ((3000, 4000), (2048, 512), [512, 683]),
        ((1, 1), (2048, 512), [512, 512]),
        ((1, 10000), (2048, 512), [1, 2048]),
    ],
)
def test_sizes_fit_into_the_scale(size, scale, fitted):
    assert fitted_size(size, scale) == fitted


def pair(height: int, width: int):
    image = tv_tensors.Image(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
    return image, tv_tensors.Mask(torch.randint(0, 5, (height, width), dtype=torch.uint8))


def test_the_random_size_lies_within_the_ratios():
    transform, shorter = RandomRatioResize((256, 64), (0.5, 2.0)), []
    for _ in range(100):
        image, mask = transform(*pair(40, 50))
        assert image.shape[1:] == mask.shape
        assert mask.shape[1] == pytest.approx(mask.shape[0] * 50 / 40, abs=1)
        shorter.append(mask.shape[0])
    assert 32 <= min(shorter) < 40
    assert 115 < max(shorter) <= 128


def test_labels_are_never_blended():
    mask = tv_tensors.Mask(torch.tensor([[0, 4], [4, 255]], dtype=torch.uint8).repeat_interleave(20, 0))
    _, resized = RandomRatioResize((64, 64), (0.7, 0.9))(pair(40, 2)[0], mask)
    assert set(resized.unique().tolist()) <= {0, 4, 255}


def test_evaluation_resizes_the_image_but_not_its_labels():
    image, mask = pair(300, 451)
    resized, kept = AlignedResize(evaluation_scale(512))(image, mask)
    assert kept is mask
    assert resized.shape == (3, 512, 800)  # 770 rounded up
    assert resized.dtype == torch.uint8
    assert AlignedResize((128, 32))(pair(1, 500)[0]).shape == (3, 32, 128)


def test_published_evaluation_resizes_twice_without_antialiasing():
    """300x451 fits (2048, 512) as 512x770, and becomes 512x800."""
    image, mask = pair(300, 451)
    resized, kept = AlignedResize(evaluation_scale(512), as_published=True)(image, mask)
    assert kept is mask
    assert isinstance(resized, tv_tensors.Image)
    assert torch.equal(resized, opencv_resize(opencv_resize(image, (512, 770)), (512, 800)))


def test_crops_hold_image_and_labels_of_the_same_place():
    mask = tv_tensors.Mask(torch.arange(240).reshape(12, 20).to(torch.uint8))
    image = tv_tensors.Image(mask.as_subclass(torch.Tensor)[None].expand(3, -1, -1))
    places = set()
    for _ in range(60):
        cut, labels = CategoryCrop(8)(image, mask)
        assert labels.shape == (8, 8)
        assert torch.equal(cut[1].as_subclass(torch.Tensor), labels.as_subclass(torch.Tensor))
        places.add(labels[0, 0].item())
    assert len(places) > 25
    assert CategoryCrop(16)(image, mask)[1].shape == (12, 16)


def test_crops_of_nearly_one_class_are_drawn_again():
    """Only a tenth of the image has mixed classes; without another try, few crops would contain it."""
    mask = torch.zeros(20, 200, dtype=torch.uint8)
    mask[::2, :20] = 1
    mixed = {}
    for ratio in (0.75, 1.0):
        crops = [CategoryCrop(20, ratio)(tv_tensors.Mask(mask)) for _ in range(150)]
        mixed[ratio] = sum(crop.float().mean().item() > 0.25 for crop in crops)
    assert mixed[1.0] < 20
    assert mixed[0.75] > 3 * max(1, mixed[1.0])


def test_ignored_pixels_have_no_share_of_a_crop():
    mask = tv_tensors.Mask(torch.full((8, 8), 255, dtype=torch.uint8))
    assert CategoryCrop(4)(mask).shape == (4, 4)
    mask[0, 0], mask[0, 1] = 1, 2
    assert CategoryCrop(8)(mask).shape == (8, 8)


def test_padding_is_mean_color_and_ignored():
    image, mask = PadTo(8)(*pair(5, 9))
    assert image.shape == (3, 8, 9)
    assert (mask[5:] == 255).all()
    assert (mask[:5] < 5).all()
    assert image[:, 6, 3].tolist() == list(MEAN_COLOUR)
    assert PadTo(4)(*pair(5, 9))[1].shape == (5, 9)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (1, 1), (3, 500), (500, 3), (64, 64)])
def test_training_pairs_are_all_of_the_crops_size(height, width):
    transform = segmentation_training(crop=48)
    for _ in range(4):
        image, mask = transform(*pair(height, width))
        assert image.shape == (3, 48, 48)
        assert mask.shape == (48, 48)
        assert (image.dtype, mask.dtype) == (torch.uint8, torch.uint8)
        assert set(mask.unique().tolist()) <= {*range(5), 255}


def test_padding_takes_a_value_for_each_channel():
    image = tv_tensors.Image(torch.zeros(4, 5, 9))
    padded, _ = PadTo(10, [1.0, 2.0, 3.0, 4.5])(image, tv_tensors.Mask(torch.zeros(5, 9, dtype=torch.uint8)))
    assert padded.shape == (4, 10, 10) and padded[:, -1, -1].tolist() == [1.0, 2.0, 3.0, 4.5]
