import json
import math

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from transxnet.data.datasets.image_dataset import seeded
from transxnet.data.loading.preprocessing import Preprocessing, crop_middle

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AUGMENTATION = dict(
    min_scale=0.5,
    hflip=0.5,
    vflip=0.5,
    color_jitter=0.4,
    auto_augment="rand-m9-mstd0.5-inc1",
    random_erasing=0.5,
)
NONE = dict(min_scale=1.0, hflip=0.0, vflip=0.0, color_jitter=0.0, auto_augment=None, random_erasing=0.0)


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def by_hand(image: Image.Image, size: int, crop_pct: float) -> np.ndarray:
    shorter = math.floor(size / crop_pct)
    scale = shorter / min(image.size)
    width, height = (shorter if side == min(image.size) else int(side * scale) for side in image.size)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) / 255
    top, left = round((height - size) / 2), round((width - size) / 2)
    return ((resized[top : top + size, left : left + size] - MEAN) / STD).transpose(2, 0, 1)


@pytest.mark.parametrize("shape", [(80, 60), (60, 80), (33, 33), (20, 101)])
@pytest.mark.parametrize(("size", "crop_pct"), [(32, 0.875), (32, 1.0), (48, 0.9)])
def test_evaluation_resizes_crops_the_center_and_normalizes(shape, size, crop_pct):
    image = noise(*shape)
    shown = Preprocessing(size, crop_pct, "bicubic", MEAN, STD).transform()(image)
    assert shown.dtype == torch.float32
    assert shown.shape == (3, size, size)
    assert abs(shown.numpy() - by_hand(image, size, crop_pct)).max() < 1e-5


def test_evaluation_is_deterministic():
    transform = Preprocessing(32, 0.9, "bicubic", MEAN, STD).transform()
    assert torch.equal(transform(noise(50, 40)), transform(noise(50, 40)))


def test_training_follows_the_seed():
    transform = Preprocessing(32, 0.9, "bicubic", MEAN, STD).training_transform(**AUGMENTATION)
    shown = []
    for seed in (*range(8), *range(8)):
        with seeded(seed):
            shown.append(transform(noise(50, 40)))
    assert all(torch.equal(a, b) for a, b in zip(shown[:8], shown[8:], strict=True))
    assert not any(torch.equal(shown[i], shown[j]) for i in range(8) for j in range(i))


def test_training_without_augmentation_keeps_the_image():
    image = noise(32, 32)
    shown = Preprocessing(32, 0.9, "bicubic", MEAN, STD).training_transform(**NONE)(image)
    assert abs(shown.numpy() - by_hand(image, 32, 1.0)).max() < 1e-5


@pytest.mark.parametrize(("option", "flipped"), [("hflip", 2), ("vflip", 1)])
def test_flips_happen_along_their_side(option, flipped):
    shown = Preprocessing(32, 0.9, "bicubic", MEAN, STD).training_transform(**{**NONE, option: 1.0})(noise(32, 32))
    assert abs(shown.flip(flipped).numpy() - by_hand(noise(32, 32), 32, 1.0)).max() < 1e-5


@pytest.mark.parametrize(
    "change", [{"color_jitter": 0.4}, {"auto_augment": "rand-m9-mstd0.5-inc1"}, {"random_erasing": 1.0}]
)
def test_each_augmentation_can_be_enabled(change):
    plain = Preprocessing(32, 0.9, "bicubic", MEAN, STD).training_transform(**NONE)(noise(32, 32))
    transform = Preprocessing(32, 0.9, "bicubic", MEAN, STD).training_transform(**{**NONE, **change})
    changes = []
    for seed in range(8):  # RandAugment leaves some images unchanged
        with seeded(seed):
            changes.append((transform(noise(32, 32)) - plain).abs().max())
    assert max(changes) > 0.1


def test_crop_keeps_at_least_the_requested_share():
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).convert("RGB")
    transform = Preprocessing(64, 0.9, "bilinear", (0, 0, 0), (1, 1, 1)).training_transform(
        **{**NONE, "min_scale": 0.9}
    )
    for seed in range(20):
        with seeded(seed):
            shown = transform(ramp)
        assert shown.max() - shown.min() > 0.75  # a crop of 0.9 with aspect ratio 3:4 keeps 0.82 of the width


def test_preprocessing_survives_json():
    model = timm.create_model("resnet18.tv_in1k", num_classes=2)
    before = Preprocessing.of_model(model, img_size=96, crop_pct=0.9)
    after = Preprocessing.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before
    assert after == Preprocessing(96, 0.9, "bilinear", MEAN, STD)


def test_a_models_own_configuration_is_the_default():
    assert Preprocessing.of_model(timm.create_model("resnet18.tv_in1k")) == Preprocessing(
        224, 0.875, "bilinear", MEAN, STD
    )


@pytest.mark.parametrize("shape", [(600, 10), (601, 10), (10, 2000)])
def test_middle_of_long_images_is_the_center_crop(shape):
    image = noise(*shape)
    assert max(crop_middle(image).size) <= 161
    transform = Preprocessing(32, 1.0, "bicubic", MEAN, STD).transform()
    np.testing.assert_allclose(transform(image), by_hand(image, 32, 1.0), atol=0.1)


def test_memory_of_a_strip_does_not_grow_with_its_length():
    pixels = Preprocessing(32, 0.9, "bicubic", MEAN, STD).transform()(Image.new("RGB", (30_000, 1), "white"))
    assert pixels.shape == (3, 32, 32)
    assert crop_middle(noise(160, 10)).size == (160, 10)


def test_display_inverts_the_normalization():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    image = torch.from_numpy((pixels / 255 - MEAN) / STD).permute(2, 0, 1).float()
    np.testing.assert_array_equal(Preprocessing(32, 0.9, "bicubic", MEAN, STD).display(image), pixels)
