"""The table and the figure of known kernels and attention maps."""

import numpy as np
import pytest
from rich.console import Console

from transxnet.analysis.dynamics_report import draw, table
from transxnet.analysis.kernel_variation import Dynamics, MixerDynamics


@pytest.fixture
def opposite() -> Dynamics:
    """Two images with kernels of opposite sign and attention to different keys."""
    kernels = np.stack([np.ones((16, 3, 3)), -np.ones((16, 3, 3))]).astype(np.float32)
    attention = np.zeros((2, 1, 4, 4), np.float32)
    attention[0, :, :, 0] = attention[1, :, :, 3] = 1
    mixers = [MixerDynamics(f"stages.{i}.blocks.0.mixer", kernels, attention, (2, 2), (2, 2)) for i in range(2)]
    return Dynamics("net", True, ["a.png", "b.png"], np.zeros((2, 8, 8, 3), np.uint8), mixers)


def test_table_shows_full_variation(opposite):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table(opposite))
    lines = [line.split() for line in capture.get().splitlines() if line.startswith("stages.")]
    assert lines == [[f"stages.{i}.blocks.0.mixer", "100.0%", "100.0%"] for i in range(2)]


def test_figure_shows_kernels_their_difference_and_attention(opposite):
    grid = np.array(draw(opposite).axes[:15]).reshape(5, 3)  # and two color bars
    assert [axes.get_title() for axes in grid[0]] == ["", "stage 1", "stage 2"]
    first, second, difference = (axes.images[0].get_array() for axes in grid[:3, 1])
    np.testing.assert_array_equal(first[:3, :3], 1)
    np.testing.assert_array_equal(second[:3, :3], -1)
    np.testing.assert_array_equal(difference[:3, :3], -1)  # scaled to its largest value
    assert grid[2, 1].get_xlabel() == "scaled by 0.5\nmaximum 1\nkernel variation 100.0%"
    brightest = [np.unravel_index(axes.images[0].get_array().sum(-1).argmax(), (8, 8)) for axes in grid[3:, 1]]
    assert [(row // 4, column // 4) for row, column in brightest] == [(0, 0), (1, 1)]
