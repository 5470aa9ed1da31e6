"""Blended logits of tiles: no visible border, and the memory of one row of tiles."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from transxnet.data.tiling import Tiling
from transxnet.evaluation.tiled_segmentation import blend_weights, tiled_logits

CLASSES, REACH = 3, 4


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """A fully convolutional network in which a pixel depends on others at a distance of up to ``REACH``."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, CLASSES, 5, padding=2)]
    return nn.Sequential(*layers).double().requires_grad_(False)


def logits_of(network: nn.Module):
    return lambda tile: network(tile[None] / 255.0)[0]


def image(height: int, width: int) -> Tensor:
    return torch.randint(256, (3, height, width), dtype=torch.float64)


@pytest.mark.parametrize("size", [(150, 97), (64, 300), (50, 40), (65, 64)])
@pytest.mark.parametrize("overlap", [0.25, 0.3, 0.6])
def test_no_tile_border_is_visible(network, size, overlap):
    pixels, tiling = image(*size), Tiling(64, overlap)
    assert tiling.shared >= 4 * REACH
    whole = logits_of(network)(pixels)
    tiled = torch.cat(list(tiled_logits(logits_of(network), pixels, tiling)), 1)
    assert tiled.shape == whole.shape
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)  # weights are float32
    assert torch.equal(tiled.argmax(0), whole.argmax(0))


def test_border_is_visible_without_overlap(network):
    pixels = image(150, 97)
    whole = logits_of(network)(pixels)
    tiled = torch.cat(list(tiled_logits(logits_of(network), pixels, Tiling(64, 0.0))), 1)
    different = (tiled - whole).abs().amax(0) > 1e-3
    assert different.any() and not different[: 32 - REACH, : 32 - REACH].any()


def test_different_tiles_are_blended_without_a_step():
    """A network without any agreement between tiles: the result changes slowly, never from pixel to pixel."""
    levels = iter(range(100))
    tiles = tiled_logits(lambda tile: torch.full_like(tile[:1], next(levels)), image(64, 160), Tiling(64, 0.5))
    values = torch.cat(list(tiles), 1)[0, 0]
    assert values[0] == 0 and values[-1] == values.max() >= 3
    assert values.diff().abs().max() < 2 * torch.pi / 2 / 32 * 1.01  # the steepest slope of the cosine


@pytest.mark.parametrize("overlap", [0.0, 0.03, 0.2, 0.9])
def test_weights_add_up_to_one(overlap):
    for side in (40, 64, 65, 100, 333):
        tiling, total = Tiling(64, overlap), torch.zeros(side)
        for (start, end), weight in zip(tiling.spans(side), blend_weights(side, tiling), strict=True):
            assert weight.shape == (end - start,) and (weight >= 0).all()
            total[start:end] += weight
        torch.testing.assert_close(total, torch.ones(side))


class LargestTensor(TorchDispatchMode):
    """Record the number of elements of the largest tensor that an operator returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_memory_is_that_of_a_row_of_tiles():
    """Of an image of any height, no tensor is larger than the logits of one row."""
    width, tiling = 96, Tiling(32, 0.25)
    classes = 20
    for height in (100, 3000):
        pixels, rows = torch.zeros(3, height, width, dtype=torch.uint8), 0
        with LargestTensor() as largest:
            for strip in tiled_logits(lambda tile: tile[:1].float().expand(classes, -1, -1), pixels, tiling):
                rows += strip.shape[1]
                assert strip.untyped_storage().nbytes() == classes * tiling.size * width * 4
        assert rows == height
        assert largest.elements == classes * tiling.size * width
