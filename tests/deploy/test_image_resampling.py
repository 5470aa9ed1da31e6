"""Pillow's resampling as matrix products."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.exports import photo
from transxnet.deploy.image_resampling import antialiased_weights, count, resize_levels, sides


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(30, 200), (70, 90), (300, 7)])
def test_resized_levels_are_those_of_pillow(interpolation, size):
    image = photo(90, 120)
    levels = torch.from_numpy(np.array(image))
    own = sides(levels)
    rows, columns = (
        antialiased_weights(count(own_side), torch.tensor(side).double(), count(side), own[axis], interpolation)
        for axis, (own_side, side) in enumerate(zip((90, 120), size, strict=True))
    )
    found = resize_levels(levels.permute(2, 0, 1).float(), rows, columns)
    truth = np.asarray(image.resize(size[::-1], Image.Resampling[interpolation.upper()]), np.float32)
    difference = (found.permute(1, 2, 0) - torch.from_numpy(truth)).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.02
