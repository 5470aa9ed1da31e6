"""Images in RGB or in channels, and how they are shown."""

import numpy as np
import torch
from PIL import Image

from transxnet.data.reading.pixels import (
    crop_pixels,
    displayed,
    extensions_for,
    grayscale,
    open_pixels,
    pixels_size,
    pixels_to_tensor,
    unit_to_uint8,
)


def test_files_are_read_in_rgb_or_in_channels(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (7, 6), 9).save(path)
    assert open_pixels(path, None).mode == "RGB"
    assert open_pixels(path, 1).shape == (1, 6, 7)
    assert ".npy" in extensions_for(1) and ".npy" not in extensions_for(None)
    assert pixels_size(path, None, full=False) == pixels_size(path, 1, full=False) == (6, 7)


def test_images_of_both_kinds_are_converted_and_cropped_alike():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8))
    tensor, window = pixels_to_tensor(image), (1, 2, 7, 9)
    assert (tensor.shape, tensor.dtype) == ((3, 9, 8), torch.uint8)
    values = tensor.float()
    assert pixels_to_tensor(values) is values
    assert torch.equal(pixels_to_tensor(crop_pixels(image, window)).float(), crop_pixels(values, window))


def test_first_three_channels_are_shown_between_percentiles():
    values = torch.linspace(-5, 900, 101).view(1, 1, 101)
    shown = np.asarray(displayed(torch.cat([values, -values, 0 * values, values])))
    assert shown.shape == (1, 101, 3)
    assert (shown[0, :3, 0] == 0).all() and (shown[0, -3:, 0] == 255).all()
    np.testing.assert_allclose(shown[0, :, 1], shown[0, ::-1, 0], atol=1)
    assert not shown[..., 2].any()


def test_fewer_channels_are_shown_in_gray():
    shown = np.asarray(displayed(torch.rand(2, 6, 7)))
    assert (shown == shown[..., :1]).all() and shown.max() == 255


def test_gray_rendering_uses_all_channels():
    ramp = torch.linspace(-5, 900, 101).expand(6, 101)
    same, opposite = (np.asarray(grayscale(torch.stack(pair))) for pair in ((ramp, 9 * ramp), (ramp, -ramp)))
    assert same.shape == (6, 101) and same[0, 0] == 0 and same[0, -1] == 255
    np.testing.assert_allclose(opposite, 127.5, atol=1)
    assert grayscale(Image.new("RGB", (7, 6), "red")).getpixel((0, 0)) == 76


def test_rgb_image_is_shown_as_it_is():
    image = Image.new("RGB", (7, 6))
    assert displayed(image) is image
    pixels = torch.randint(256, (3, 6, 7), dtype=torch.uint8)
    assert torch.equal(pixels_to_tensor(displayed(pixels)), pixels)


def test_unit_values_become_8_bits():
    assert unit_to_uint8(torch.tensor([[[-1.0]], [[0.5]], [[2.0]]])).tolist() == [[[0, 128, 255]]]
