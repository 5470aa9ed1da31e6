"""Class colors, and text colors on them."""

import colorsys
from collections.abc import Iterator

Color = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

# The first seven are from Okabe and Ito (2008). Each further color is the one on a grid over sRGB that is farthest in
# OKLab from all earlier ones, for normal vision, deuteranopia and protanopia (Machado et al. 2009).
_CHOSEN = (
    "0072b2 e69f00 009e73 cc79a7 56b4e9 d55e00 f0e442 771144 6600ff 77ffff "
    "665500 442299 8877ff 00dd99 bb1177 bbccff dd11cc 0000cc ff4477 88ff99"
)
_TONES = ((0.75, 0.85), (0.5, 1.0), (1.0, 0.6), (0.45, 0.7))
_GOLDEN = 0.6180339887498949


def palette(count: int) -> list[Color]:
    """Return distinct colors for ``count`` classes; the color of class i does not depend on the count.

    The first 20 are easy to distinguish, also for color-blind people. Further hues follow the golden angle with
    alternating lightness: no two are the same, but many are similar.
    """
    chosen = [(red, green, blue) for red, green, blue in map(bytes.fromhex, _CHOSEN.split())]
    return (chosen + list(_generated(count - len(chosen), set(chosen))))[:count]


def _generated(count: int, taken: set[Color]) -> Iterator[Color]:
    """Generate ``count`` colors that are not in ``taken``."""
    number = 0
    while count > 0:
        saturation, value = _TONES[number % len(_TONES)]
        red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN % 1, saturation, value)
        color = round(255 * red), round(255 * green), round(255 * blue)
        number += 1
        if color not in taken:
            taken.add(color)
            count -= 1
            yield color


def text_color(fill: Color) -> Color:
    """Return black or white, whichever has the higher contrast to the fill (at least 4.5 to 1 by WCAG 2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in fill)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) ** 2 > 1.05 * 0.05 else (255, 255, 255)
