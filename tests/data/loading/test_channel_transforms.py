"""Transforms of images with channels, against those of RGB images."""

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.data.datasets.image_dataset import seeded
from transxnet.data.loading.channel_transforms import CropMiddle, channel_augmentation
from transxnet.data.loading.preprocessing import Preprocessing

MEAN, STD = (10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("shape", [(60, 80), (33, 33), (20, 101)])
def test_inference_matches_that_of_rgb_images(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    rgb = Preprocessing(32, 0.9, "bilinear", (0.5,) * 3, (0.25,) * 3)
    channels = Preprocessing(32, 0.9, "bilinear", (127.5,) * 3, (63.75,) * 3, channels=3)
    expected = rgb.transform()(Image.fromarray(pixels))
    found = channels.transform()(torch.from_numpy(pixels).permute(2, 0, 1).float())
    assert (found - expected).abs().max() < 2 / 255 / 0.25  # Pillow rounds twice to 8 bits


def test_thin_image_is_cropped_to_its_middle():
    image = torch.arange(2000.0).view(1, 2, 1000)
    assert CropMiddle()(image).shape == (1, 2, 32)
    assert torch.equal(CropMiddle()(image[..., :20]), image[..., :20])
    assert CropMiddle()(image.mT).shape == (1, 32, 2)


def test_augmentation_follows_the_seed_and_keeps_channels_together():
    augment = channel_augmentation(16, "bicubic", MEAN, STD, min_scale=0.3, hflip=0.5, vflip=0.5, random_erasing=0.0)
    image = torch.rand(1, 40, 40).expand(4, 40, 40) * torch.tensor(STD).view(4, 1, 1) + torch.tensor(MEAN).view(4, 1, 1)
    shown = []
    for seed in (0, 1, 0):
        with seeded(seed):
            shown.append(augment(image))
    assert shown[0].shape == (4, 16, 16)
    assert torch.equal(shown[0], shown[2]) and not torch.equal(shown[0], shown[1])
    torch.testing.assert_close(shown[0], shown[0][:1].expand(4, 16, 16), atol=1e-4, rtol=0)


def test_erasing_fills_a_rectangle_with_noise():
    augment = channel_augmentation(
        16, "bicubic", (0.0, 0.0), (1.0, 1.0), min_scale=1.0, hflip=0.0, vflip=0.0, random_erasing=1.0
    )
    erased = augment(torch.ones(2, 16, 16)) != 1
    assert 0 < erased.float().mean() < 0.5
    assert torch.equal(erased[0], erased[1])


def test_preprocessing_survives_its_plain_form():
    stored = Preprocessing(32, 0.9, "bicubic", MEAN, STD, channels=4).to_dict()
    assert Preprocessing.from_dict(stored).channels == 4
    assert "channels" not in Preprocessing(32, 0.9, "bicubic", MEAN[:3], STD[:3]).to_dict()


@pytest.mark.parametrize("channels", [3, 0, True, "4"])
def test_preprocessing_refuses_other_numbers_of_statistics(channels):
    with pytest.raises(ValueError, match="mean and std of each channel"):
        Preprocessing(32, 0.9, "bicubic", MEAN, STD, channels=channels)
