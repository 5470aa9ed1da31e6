import numpy as np
import pytest
from PIL import Image

from transxnet.reports.class_drawing import draw_classes
from transxnet.reports.colors import palette

COLOR = palette(1)[0]


def bars(drawn: Image.Image, left: int) -> list[int]:
    """Lengths of the bars, from top to bottom."""
    colored = (np.asarray(drawn)[:, left:] == COLOR).all(2).sum(1)
    edges = np.flatnonzero(np.diff(np.r_[0, (colored > 0).astype(int)]) == 1)
    return [int(colored[edge]) for edge in edges]


def test_bars_have_the_length_of_the_probability():
    image = Image.new("RGB", (200, 150), (10, 20, 30))
    drawn = draw_classes(image, [("cat", 0.75), ("dog", 0.25), ("cow", 0.0)], text_size=20)
    assert drawn.size == (200 + 12 * 20 + 40, 3 * 44 + 20)
    assert np.array_equal(np.asarray(drawn)[:150, :200], image)
    assert bars(drawn, 200) == [180, 60]


@pytest.mark.parametrize("size", [(1, 1), (4000, 20), (20, 1000)])
@pytest.mark.parametrize("name", ["", "n" * 300, "日本\n語"])
def test_any_size_and_name_is_drawn(size, name):
    drawn = draw_classes(Image.new("L", size), [(name, 1.0)])
    assert drawn.mode == "RGB"
    assert drawn.width > size[0]
    assert drawn.height >= size[1]
