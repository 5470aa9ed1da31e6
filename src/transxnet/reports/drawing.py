"""What a model found, drawn over the picture: boxes, masks and label maps."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.data.reading.masks import decode_mask, mask_box
from transxnet.reports.colors import Colour, palette, text_colour
from transxnet.reports.fonts import font_for, one_line, shortened
from transxnet.utils.errors import UserError

if TYPE_CHECKING:
    from transxnet.metrics.detection import Found

__all__ = ["draw_detections", "draw_label_map", "indexed_map", "palette"]

SMALLEST_TEXT = 10  # px
MASK_SHARE = 0.4
MAP_SHARE = 0.55
LEGEND_ROWS = 20

Rectangle = tuple[int, int, int, int]


def draw_detections(
    picture: Image.Image, found: "Found", class_names: Sequence[str], *, text_size: int | None = None
) -> Image.Image:
    """Boxes with class and score, and the masks where there are some, over a copy of the picture.

    All that was found is drawn, the best on top; :meth:`Found.sure` leaves out what is doubtful. A score that is NaN is
    not written: the truth has none. A picture that half a dozen lines of text would cover gets none.

    Args:
        picture: (W, H), RGB.
        found: boxes in pixels of the picture, partly or wholly outside of it as they may be; masks of its size.
        class_names: K names; label 1 is the first.
        text_size: of the labels, in pixels; by default it goes by the picture's size, as does the width of the lines.

    Raises:
        UserError: a label has no class name.
        BadMask: a mask is not of the picture's size.
    """
    if len(found.labels) and not 1 <= found.labels.min() <= found.labels.max() <= len(class_names):
        raise UserError(
            f"the labels go from {found.labels.min()} to {found.labels.max()} and the {len(class_names)} classes from "
            f"1 to {len(class_names)}. Give the class names of the model that found them."
        )
    size = text_size or _text_size(picture)
    line = max(1, round(size / 7))
    colours = [palette(len(class_names))[label - 1] for label in found.labels]
    worst_first = range(len(found.labels))[::-1]
    if found.masks is not None:
        pixels = np.array(picture.convert("RGB"))
        for i in worst_first:
            _lay_mask(pixels, decode_mask(found.masks[i], picture.height, picture.width), colours[i], line)
        drawn = Image.fromarray(pixels)
    else:
        drawn = picture.convert("RGB")
        drawn = drawn.copy() if drawn is picture else drawn
    draw = ImageDraw.Draw(drawn)
    boxes = [_visible(box, drawn) for box in found.boxes.tolist()]
    for i in worst_first:
        if (box := boxes[i]) is not None:
            draw.rectangle(box, outline=colours[i], width=min(line, max(1, min(box[2] - box[0], box[3] - box[1]) // 2)))
    texts = [_caption(class_names[label - 1], score) for label, score in zip(found.labels, found.scores, strict=True)]
    _label_boxes(drawn, boxes, texts, colours, size)
    return drawn


def draw_label_map(
    picture: Image.Image,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    legend: bool = True,
    text_size: int | None = None,
) -> Image.Image:
    """The picture in grey under the translucent colours of its pixels' classes, with thin lines between regions.

    Args:
        picture: (W, H), RGB.
        labels: (H, W) uint8, 0 to K - 1, or 255 where the picture is to be left as it is.
        class_names: K names; label 0 is the first.
        legend: add, right of the picture, the names and shares of the classes that occur, the largest first.
        text_size: of the legend, in pixels; by default it goes by the picture's size.

    Returns:
        An image as high as the picture, or higher where the legend needs it.

    Raises:
        UserError: the labels have another size than the picture, or one of them has no class name.
    """
    if labels.shape != (picture.height, picture.width):
        raise UserError(
            f"the labels are (height, width) {labels.shape} and the picture is {(picture.height, picture.width)}. "
            "Resize the labels to the picture, without interpolating them."
        )
    picture = picture.convert("RGB")
    grey = picture.convert("L").convert("RGB")  # or else its hues would make the classes' colours other ones
    drawn = Image.blend(grey, indexed_map(labels, len(class_names)).convert("RGB"), MAP_SHARE)
    size = text_size or _text_size(picture)
    drawn.paste((255, 255, 255), mask=_boundaries(labels, size // 20))
    drawn.paste(picture, mask=Image.fromarray(labels == IGNORE))
    return _with_legend(drawn, labels, class_names, size) if legend else drawn


def indexed_map(labels: np.ndarray, count: int) -> Image.Image:
    """The label map as a palette image: saved as PNG it keeps the values and shows the classes' colours.

    Args:
        labels: (H, W) uint8, 0 to ``count`` - 1, or 255 for what is to be ignored, which is shown black.
        count: of classes, at most 255.

    Raises:
        UserError: too many classes, or a label beyond them.
    """
    if not 1 <= count <= IGNORE:
        raise UserError(f"a label map holds 1 to {IGNORE} classes, got {count}.")
    highest = labels[labels != IGNORE].max(initial=0)
    if highest >= count:
        raise UserError(
            f"the label map holds the label {highest} and the {count} classes go from 0 to {count - 1}. "
            "Give the class names of the model that made it."
        )
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([value for colour in palette(IGNORE) for value in colour] + [0, 0, 0])
    return image


def _text_size(picture: Image.Image) -> int:
    return max(SMALLEST_TEXT, round(math.sqrt(picture.width * picture.height) / 36))


def _lay_mask(pixels: np.ndarray, mask: np.ndarray, colour: Colour, line: int) -> None:
    """Tint the mask's pixels, in place, and draw its outline within it."""
    around = mask_box(mask)
    if around is None:
        return
    x1, y1, x2, y2 = around
    part = np.s_[max(y1 - line, 0) : y2 + line, max(x1 - line, 0) : x2 + line]
    inside, region = mask[part], pixels[part]
    # Averages over a square are as quick for wide lines as for thin ones, and full only where no pixel is missing.
    full = np.asarray(Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(line))) == 255
    region[inside] = np.round(region[inside] * (1 - MASK_SHARE) + np.array(colour) * MASK_SHARE)
    region[inside & ~full] = colour


def _visible(box: Sequence[float], picture: Image.Image) -> Rectangle | None:
    """The pixels, ends included, of what the picture shows of a box; None where it shows nothing."""
    x1, y1, x2, y2 = box
    if not (x1 < picture.width and y1 < picture.height and x2 > 0 and y2 > 0):
        return None
    left, top = max(math.floor(x1), 0), max(math.floor(y1), 0)
    return left, top, max(min(math.ceil(x2), picture.width) - 1, left), max(min(math.ceil(y2), picture.height) - 1, top)


def _caption(name: str, score: float) -> tuple[str, str]:
    """What stands at a box: the name, which may be cut, and the score, which may not."""
    return one_line(name), "" if math.isnan(score) else f" {100 * score:.0f}%"


def _label_boxes(
    drawn: Image.Image,
    boxes: Sequence[Rectangle | None],
    texts: Sequence[tuple[str, str]],
    colours: Sequence[Colour],
    size: int,
) -> None:
    """Write each box's text on a filled label at its edge, clear of the better ones' labels where that can be."""
    pad = max(2, round(size / 5))
    labels: list[tuple[Rectangle, str, Colour]] = []
    for box, (name, score), colour in zip(boxes, texts, colours, strict=True):
        font = font_for(name + score, size)
        ascent, descent = font.getmetrics()
        height = ascent + descent + 2
        if box is None or 6 * height > min(drawn.size):
            continue
        room = min(max(drawn.width / 2, 12 * size), drawn.width)  # a long name must not hide half of a small picture
        text = shortened(name, font, room - 2 * pad, score)
        width = min(math.ceil(font.getlength(text)) + 2 * pad, drawn.width)
        places = list(_places(box, width, height, drawn.width, drawn.height))
        covered = [sum(_overlap(place, other) for other, *_ in labels) for place in places]
        labels.append((places[covered.index(min(covered))], text, colour))
    draw = ImageDraw.Draw(drawn)
    for (x1, y1, x2, y2), text, colour in reversed(labels):
        font = font_for(text, size)
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=colour)
        draw.text((x1 + pad, y1 + 1 + font.getmetrics()[0]), text, fill=text_colour(colour), font=font, anchor="ls")


def _places(box: Rectangle, width: int, height: int, right: int, bottom: int) -> Iterator[Rectangle]:
    """Where a label may stand, the best place first: on the box's corners, then down its left edge; in the picture."""
    x1, y1, x2, y2 = box
    corners = [(x1, y1 - height), (x1, y1), (x1, y2 + 1), (x2 + 1 - width, y1 - height), (x2 + 1 - width, y2 + 1)]
    for x, y in corners + [(x1, y1 + i * height) for i in range(1, 9)]:
        x, y = max(min(x, right - width), 0), max(min(y, bottom - height), 0)
        yield x, y, x + width, y + height


def _overlap(a: Rectangle, b: Rectangle) -> int:
    """Area that two rectangles share, their right and lower ends excluded."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _boundaries(labels: np.ndarray, radius: int) -> Image.Image:
    """Where one label meets another, widened by ``radius`` pixels to either side."""
    edges = np.zeros(labels.shape, np.uint8)
    edges[:, 1:][labels[:, 1:] != labels[:, :-1]] = 255
    edges[1:][labels[1:] != labels[:-1]] = 255
    image = Image.fromarray(edges)
    return image.filter(ImageFilter.BoxBlur(radius)).point(lambda v: 255 * (v > 0)) if radius else image


def _with_legend(drawn: Image.Image, labels: np.ndarray, class_names: Sequence[str], size: int) -> Image.Image:
    """The picture, and right of it a panel with the classes that occur; of the smallest only their number."""
    counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    row = round(1.6 * size)
    room = min(LEGEND_ROWS, max(4, drawn.height // row - 1))
    shown = order if len(order) <= room else order[: room - 1]
    colours = palette(len(class_names))
    rows: list[tuple[str, Colour | None]] = []
    for i in shown:
        share = 100 * counts[i] / counts.sum()
        end = " <1%" if share < 0.5 else f" {share:.0f}%"
        name = one_line(class_names[i])
        rows.append((shortened(name, font_for(name + end, size), 14 * size, end), colours[i]))
    if len(shown) < len(order):
        rows.append((f"and {len(order) - len(shown)} more", None))
    if not rows:
        rows.append(("nothing labelled", None))
    width = 4 * size + max(math.ceil(font_for(text, size).getlength(text)) for text, _ in rows)
    sheet = Image.new("RGB", (drawn.width + width, max(drawn.height, row * len(rows) + size)), (255, 255, 255))
    sheet.paste(drawn)
    draw = ImageDraw.Draw(sheet)
    for number, (text, colour) in enumerate(rows):
        x, y = drawn.width + size, size // 2 + row * number
        middle = y + row // 2
        if colour is not None:
            draw.rectangle((x, middle - size // 2, x + size, middle + size // 2), fill=colour)
        draw.text((x + round(1.5 * size), middle), text, fill=(0, 0, 0), font=font_for(text, size), anchor="lm")
    return sheet
