"""Draw class probabilities or a value next to an image."""

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw

from transxnet.reports.colors import palette
from transxnet.reports.drawing import SMALLEST_TEXT
from transxnet.reports.fonts import font_for, one_line, truncate
from transxnet.utils.quantities import format_value


def draw_classes(
    image: Image.Image, classes: Sequence[tuple[str, float]], *, text_size: int | None = None
) -> Image.Image:
    """Return the image with a list of classes and bars of their probabilities to the right.

    Args:
        image: (W, H), RGB.
        classes: names and probabilities, in the order to show.
        text_size: text size in pixels; the default depends on the image size.

    Returns:
        An image of the same height, or higher if the list needs it.
    """
    rows = [(name, f"{100 * probability:.1f}%", probability) for name, probability in classes]
    return _draw_rows(image, rows, text_size)


def draw_value(image: Image.Image, name: str, value: float, *, text_size: int | None = None) -> Image.Image:
    """Return the image with the name and the value of a regression to the right.

    Args:
        image: (W, H), RGB.
        name: name of the target.
        value: predicted value.
        text_size: as for :func:`draw_classes`.
    """
    return _draw_rows(image, [(name, format_value(value), None)], text_size)


def _draw_rows(image: Image.Image, rows: Sequence[tuple[str, str, float | None]], text_size: int | None) -> Image.Image:
    """Draw rows of a name, a text and a bar of a fraction, if there is one."""
    size = text_size or max(SMALLEST_TEXT, round(math.sqrt(image.width * image.height) / 24))
    row, bar = round(2.2 * size), 12 * size
    height = max(image.height, row * len(rows) + size)
    sheet = Image.new("RGB", (image.width + bar + 2 * size, height), (255, 255, 255))
    sheet.paste(image.convert("RGB"))
    draw, color = ImageDraw.Draw(sheet), palette(1)[0]
    left = image.width + size
    for number, (name, value, share) in enumerate(rows):
        top = size // 2 + row * number
        text = f" {value}"
        font = font_for(one_line(name) + text, size)
        shown = truncate(one_line(name), font, bar, text)
        draw.text((left, top + font.getmetrics()[0]), shown, fill=(0, 0, 0), font=font, anchor="ls")
        if share is None:
            continue
        base = top + sum(font.getmetrics()) + max(1, size // 8)
        draw.rectangle((left, base, left + bar - 1, base + max(2, size // 3)), fill=(225, 225, 225))
        if (length := round(bar * share)) > 0:
            draw.rectangle((left, base, left + length - 1, base + max(2, size // 3)), fill=color)
    return sheet
