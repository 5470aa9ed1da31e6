"""Counts and durations as shown to users, against values written by hand."""

import pytest

from transxnet.utils.quantities import duration, format_count


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (12_000, "12,000 images")]
)
def test_count_uses_the_right_plural(number, text):
    assert format_count(number, "image") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1 min 01 s"), (3599.6, "1 h 00 min"), (7380, "2 h 03 min")],
)
def test_duration_uses_suitable_units(seconds, text):
    assert duration(seconds) == text
