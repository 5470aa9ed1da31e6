import pytest

from transxnet.utils.errors import UserError
from transxnet.utils.image_size import parse_image_size


@pytest.mark.parametrize("size", ["800x1280", "800X1280", (800, 1280)])
def test_height_and_width_are_parsed(size):
    assert parse_image_size(size) == (800, 1280)


@pytest.mark.parametrize("size", [224, "224"])
def test_one_side_is_a_square(size):
    assert parse_image_size(size) == (224, 224)


@pytest.mark.parametrize("size", ["", "big", "224x", "1x2x3", "-3", "2.5", "\u00b2"])
def test_other_forms_are_refused(size):
    with pytest.raises(UserError, match="size must be a side in pixels or HEIGHTxWIDTH"):
        parse_image_size(size)


def test_a_side_below_the_minimum_is_refused():
    with pytest.raises(UserError, match="at least 32, got"):
        parse_image_size("32x31", minimum=32)
