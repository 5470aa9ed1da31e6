"""Counts and durations as shown to users, against values written by hand."""

import pytest

from transxnet.utils.quantities import duration, format_count, format_value


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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (17.6, "17.60"),
        (0, "0.000"),
        (-0.00123456, "-0.001235"),
        (999.96, "1000"),
        (1234.5, "1,234"),
        (-2.5e6, "-2,500,000"),
    ],
)
def test_value_has_four_digits_or_is_a_whole_number(value, text):
    assert format_value(value) == text
