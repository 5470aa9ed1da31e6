"""The table, the rows and the figure of effective receptive fields with known radii."""

import numpy as np
import pytest
from rich.console import Console

from transxnet.analysis.erf_report import draw, table, table_row
from transxnet.analysis.receptive_field import ReceptiveField


@pytest.fixture
def point() -> ReceptiveField:
    """A receptive field of 10x10 with the whole gradient in one pixel."""
    density = np.full((10, 10), 0.0)
    density[4, 6] = 1
    return ReceptiveField("net (depth=2)", "stage 4", True, density, 7)


def test_row_of_a_point_has_zero_radius_and_one_pixel(point):
    assert table_row(point) == {
        "model": "net (depth=2)",
        "part": "stage 4",
        "untrained": True,
        "images": 7,
        "size": 10,
        **{f"radius_{share}": 0.0 for share in (20, 50, 99)},
        **{f"area_{share}": 0.01 for share in (20, 50, 99)},
    }


def test_table_shows_radius_and_area(point):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table([point]))
    assert "net (depth=2), untrained" in capture.get()
    assert capture.get().count("0.0 px, 1.0%") == 3


def test_figure_draws_a_circle_for_each_share():
    even = ReceptiveField("net", "stage 4", False, np.full((9, 9), 1 / 81), 1)
    first, second, _ = draw([even, even]).axes  # and the color bar
    for axes in (first, second):
        assert [circle.radius for circle in axes.patches] == [even.radius(share) for share in (0.2, 0.5, 0.99)]
        assert all(circle.center == (4, 4) for circle in axes.patches)
