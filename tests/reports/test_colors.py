"""The palette is distinguishable with color vision deficiency, and text on it is legible."""

from collections.abc import Sequence

import numpy as np
import pytest

from transxnet.reports.colors import palette, text_color


def lab(colors: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear sRGB (N, 3)."""
    xyz = colors @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def linear(colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    values = np.array(colors) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


# Viénot, Brettel and Mollon 1999, in linear sRGB.
PROTANOPIA = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


@pytest.mark.parametrize(
    ("sight", "apart"), [(np.eye(3), 17), (PROTANOPIA, 6), (DEUTERANOPIA, 6)], ids=["normal", "protan", "deutan"]
)
def test_first_twenty_colors_are_distinguishable(sight, apart):
    seen = lab(np.clip(linear(palette(20)) @ sight.T, 0, 1))
    differences = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 1e3 * np.eye(20)
    assert differences.min() > apart  # 2.3 is a just noticeable difference


def test_palette_colors_are_unique_and_stable():
    many = palette(1500)
    assert len(set(many)) == len(many) == 1500
    assert palette(0) == []
    assert all(palette(count) == many[:count] for count in (1, 19, 20, 21, 255))


def test_text_color_has_wcag_contrast():
    for color in [*palette(500), (0, 0, 0), (255, 255, 255), (118, 118, 118), (117, 117, 117)]:
        one, other = (float(linear([c])[0] @ [0.2126, 0.7152, 0.0722]) for c in (color, text_color(color)))
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5
