"""The grid of tiles."""

import itertools

import pytest

from transxnet.data.tiling import Tiling, read_tiling, tile_dict
from transxnet.utils.errors import UserError


@pytest.mark.parametrize("overlap", [0.0, 0.05, 0.2, 0.5, 0.9])
def test_tiles_cover_a_side_and_overlap_as_requested(overlap):
    for size, side in itertools.product((32, 33, 64), (65, 66, 97, 128, 500, 1001)):
        tiling = Tiling(size, overlap)
        spans = tiling.spans(side)
        assert spans[0][0] == 0 and spans[-1][1] == side
        assert {end - start for start, end in spans} == {size}
        assert all(before[1] - after[0] >= tiling.shared for before, after in itertools.pairwise(spans))
        needed = -(-(side - size) // (size - tiling.shared)) + 1
        assert len(spans) == needed


def test_smaller_images_are_one_tile():
    assert Tiling(64).windows(40, 64) == [(0, 0, 64, 40)]


def test_windows_are_in_rows():
    assert Tiling(64, 0.5).windows(96, 128) == [
        (0, 0, 64, 64), (32, 0, 96, 64), (64, 0, 128, 64),
        (0, 32, 64, 96), (32, 32, 96, 96), (64, 32, 128, 96),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [((31,), "tile must be at least 32 pixels, got 31"), ((64, 0.95), "overlap must be 0 to 0.9, got 0.95")],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Tiling(*values)


def test_tiles_are_read_from_a_file():
    assert read_tiling(tile_dict(Tiling(64, 0.25))) == Tiling(64, 0.25)
    assert read_tiling(tile_dict(None)) is None
