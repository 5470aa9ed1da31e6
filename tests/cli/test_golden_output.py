"""What the main commands print at 80 and 120 columns, against the stored text."""

import pytest

from tests.helpers.golden_output import FOLDER, OUTPUTS, WIDTHS, output_of


@pytest.mark.parametrize(
    ("name", "width"),
    [
        pytest.param(name, width, marks=[pytest.mark.long] if (name, width) == ("info", WIDTHS[0]) else [])
        for name in OUTPUTS
        for width in WIDTHS
    ],
)
def test_output_is_unchanged(name, width):
    """After an intended change, run: python -m tests.helpers.golden_output"""
    assert output_of(name, width) == (FOLDER / f"{name}-{width}.txt").read_text(encoding="utf-8")


def test_no_other_output_is_stored():
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}-{width}.txt" for name in OUTPUTS for width in WIDTHS}
