"""Pillow's resampling as matrix products: equal to it."""

import numpy as np
import pytest
import torch
from PIL import Image

from transxnet.deploy.image_resampling import antialiased_weights, count, resize_levels, sides


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [7, 30, 48, 90, 131, 224])
@pytest.mark.parametrize("shape", [(90, 120), (8, 8), (4, 3), (1, 600)])
def test_resized_levels_are_those_of_pillow(interpolation, side, shape):
    # 17 levels, as in sample digits: their sums are often halfway between two levels.
    image = Image.fromarray(np.random.default_rng(0).integers(0, 17, (*shape, 3)).astype(np.uint8) * 15)
    levels = torch.from_numpy(np.array(image))
    size = side, side + 5
    rows, columns = (
        antialiased_weights(count(own), torch.tensor(fitted).double(), count(fitted), whole, interpolation)
        for own, fitted, whole in zip(shape, size, sides(levels), strict=True)
    )
    found = resize_levels(levels.permute(2, 0, 1).float(), rows, columns).permute(1, 2, 0)
    truth = np.asarray(image.resize(size[::-1], Image.Resampling[interpolation.upper()]), np.float32)
    np.testing.assert_array_equal(found.numpy(), truth)
