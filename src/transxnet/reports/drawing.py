"""Draw boxes, masks and label maps over an image."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from transxnet.data.datasets.segmentation_dataset import IGNORE
from transxnet.data.reading.masks import decode_mask, encode_mask, mask_box
from transxnet.metrics.detection import Detections
from transxnet.reports.colors import Color, palette, text_color
from transxnet.reports.fonts import font_for, one_line, truncate
from transxnet.utils.errors import UserError

SMALLEST_TEXT = 10  # px
LARGE_SIDE = 512  # px; smaller images are enlarged for drawing
MASK_SHARE = 0.4
MAP_SHARE = 0.45
BACKGROUND_NAMES = ("background", "_background_", "bg", "unlabeled")
LEGEND_ROWS = 20

Rectangle = tuple[int, int, int, int]


def enlarge(image: Image.Image, detections: Detections) -> tuple[Image.Image, Detections]:
    """Enlarge an image and its detections by an integer, so that labels fit: to a longer side of at least 512 pixels.

    Larger images are returned as they are.
    """
    factor = math.ceil(LARGE_SIDE / max(image.size))
    if factor == 1:
        return image, detections
    return resize_detections(image, detections, (factor * image.width, factor * image.height))


def resize_detections(
    image: Image.Image, detections: Detections, size: tuple[int, int]
) -> tuple[Image.Image, Detections]:
    """Resize an image and its detections to (width, height)."""
    scale = np.array(size * 2) / np.array(image.size * 2)
    masks = None
    if detections.masks is not None:
        decoded = (decode_mask(mask, image.height, image.width).astype(np.uint8) for mask in detections.masks)
        resized = (Image.fromarray(mask).resize(size, Image.Resampling.NEAREST) for mask in decoded)
        masks = [encode_mask(np.asarray(mask)) for mask in resized]
    boxes = (detections.boxes * scale).astype(np.float32)
    return image.resize(size), Detections(boxes, detections.labels, detections.scores, masks)


def draw_detections(
    image: Image.Image, detections: Detections, class_names: Sequence[str], *, text_size: int | None = None
) -> Image.Image:
    """Draw boxes with class and score, and masks if any, on a copy of the image.

    Draws all detections, the best on top; see :meth:`Detections.filter`. NaN scores, as of annotations, are not
    written. Images lower or narrower than six lines of text get no labels.

    torchvision's ``draw_bounding_boxes`` overlaps the labels, cuts them at the edges of the image, and draws masks
    without outlines.

    Args:
        image: (W, H), RGB.
        detections: boxes in pixels, which may be partly or wholly outside the image; masks of its size.
        class_names: K names; label 1 is the first.
        text_size: text size of the labels in pixels; the default depends on the image size, as does the line width.

    Raises:
        UserError: a label has no class name.
        BadMask: a mask has another size than the image.
    """
    labels = detections.labels
    if len(labels) and not 1 <= labels.min() <= labels.max() <= len(class_names):
        raise UserError(
            f"labels must be 1 to {len(class_names)} for {len(class_names)} classes, got {labels.min()} to "
            f"{labels.max()}. "
            "Pass the class names of the model that predicted them."
        )
    size = text_size or _text_size(image)
    line = max(1, round(size / 7))
    colors = [palette(len(class_names))[label - 1] for label in labels]
    worst_first = range(len(labels))[::-1]
    if detections.masks is not None:
        pixels = np.array(image.convert("RGB"))
        for i in worst_first:
            _draw_mask(pixels, decode_mask(detections.masks[i], image.height, image.width), colors[i], line)
        drawn = Image.fromarray(pixels)
    else:
        drawn = image.convert("RGB")
        drawn = drawn.copy() if drawn is image else drawn
    draw = ImageDraw.Draw(drawn)
    boxes = [_clip_box(box, drawn) for box in detections.boxes.tolist()]
    for i in worst_first:
        if (box := boxes[i]) is not None:
            draw.rectangle(box, outline=colors[i], width=min(line, max(1, min(box[2] - box[0], box[3] - box[1]) // 2)))
    texts = [_caption(class_names[label - 1], score) for label, score in zip(labels, detections.scores, strict=True)]
    _label_boxes(drawn, boxes, texts, colors, size)
    return drawn


def draw_label_map(
    image: Image.Image,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    untinted: int | None = None,
    legend: bool = True,
    text_size: int | None = None,
) -> Image.Image:
    """Overlay the class colors on a gray copy of the image, with lines between regions.

    Args:
        image: (W, H), RGB.
        labels: (H, W) uint8, 0 to K - 1; pixels of 255 keep their own color.
        class_names: K names; label 0 is the first.
        untinted: a class whose pixels keep their own color, such as :func:`background_class`.
        legend: add the names and shares of the classes that occur, largest first, to the right of the image.
        text_size: text size of the legend in pixels; the default depends on the image size.

    Returns:
        An image of the same height, or higher if the legend needs it.

    Raises:
        UserError: the labels have another size than the image, or one of them has no class name.
    """
    if labels.shape != (image.height, image.width):
        raise UserError(
            f"labels must have the (height, width) of the image, {(image.height, image.width)}, got {labels.shape}. "
            "Resize them with nearest-neighbor interpolation."
        )
    image = image.convert("RGB")
    gray = image.convert("L").convert("RGB")  # the hues of the image would change the class colors
    drawn = Image.blend(gray, indexed_map(labels, len(class_names)).convert("RGB"), MAP_SHARE)
    size = text_size or _text_size(image)
    if untinted is not None:
        drawn.paste(image, mask=Image.fromarray(labels == untinted))
    drawn.paste((255, 255, 255), mask=_boundaries(labels, size // 20))
    drawn.paste(image, mask=Image.fromarray(labels == IGNORE))
    return _with_legend(drawn, labels, class_names, size, untinted) if legend else drawn


def named_background(class_names: Sequence[str]) -> int | None:
    """Return the class named background, or None."""
    return next((i for i, name in enumerate(class_names) if name.lower() in BACKGROUND_NAMES), None)


def background_class(labels: np.ndarray, class_names: Sequence[str]) -> int | None:
    """Return the class named background, or else the most frequent one; None if all pixels are ignored."""
    background = named_background(class_names)
    if background is not None:
        return background
    counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
    return int(counts.argmax()) if counts.any() else None


def indexed_map(labels: np.ndarray, count: int) -> Image.Image:
    """Return the label map as a palette image; PNG stores its values and the class colors.

    Args:
        labels: (H, W) uint8, 0 to ``count`` - 1, or 255 for ignored pixels, which are black.
        count: number of classes, at most 255.

    Raises:
        UserError: too many classes, or a label beyond them.
    """
    if not 1 <= count <= IGNORE:
        raise UserError(f"a label map supports 1 to {IGNORE} classes, got {count}.")
    highest = labels[labels != IGNORE].max(initial=0)
    if highest >= count:
        raise UserError(
            f"labels must be 0 to {count - 1} for {count} classes, got {highest}. "
            "Pass the class names of the model that predicted them."
        )
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette([value for color in palette(IGNORE) for value in color] + [0, 0, 0])
    return image


def _text_size(image: Image.Image) -> int:
    return max(SMALLEST_TEXT, round(math.sqrt(image.width * image.height) / 36))


def _draw_mask(pixels: np.ndarray, mask: np.ndarray, color: Color, line: int) -> None:
    """Tint the pixels of a mask in place, and draw its outline inside it."""
    around = mask_box(mask)
    if around is None:
        return
    x1, y1, x2, y2 = around
    part = np.s_[max(y1 - line, 0) : y2 + line, max(x1 - line, 0) : x2 + line]
    inside, region = mask[part], pixels[part]
    # A box blur is equally fast for all line widths, and 255 only where the whole square is inside the mask.
    full = np.asarray(Image.fromarray(inside.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(line))) == 255
    region[inside] = np.round(region[inside] * (1 - MASK_SHARE) + np.array(color) * MASK_SHARE)
    region[inside & ~full] = color


def _clip_box(box: Sequence[float], image: Image.Image) -> Rectangle | None:
    """Return the first and last pixels of a box inside the image; None if it is outside."""
    x1, y1, x2, y2 = box
    if not (x1 < image.width and y1 < image.height and x2 > 0 and y2 > 0):
        return None
    left, top = max(math.floor(x1), 0), max(math.floor(y1), 0)
    return left, top, max(min(math.ceil(x2), image.width) - 1, left), max(min(math.ceil(y2), image.height) - 1, top)


def _caption(name: str, score: float) -> tuple[str, str]:
    """Return the class name of a box, which may be truncated, and its score, which may not."""
    return one_line(name), "" if math.isnan(score) else f" {100 * score:.0f}%"


def _label_boxes(
    drawn: Image.Image,
    boxes: Sequence[Rectangle | None],
    texts: Sequence[tuple[str, str]],
    colors: Sequence[Color],
    size: int,
) -> None:
    """Write each box's text on a filled label at its edge that covers as little as possible of better boxes' labels."""
    pad = max(2, round(size / 5))
    labels: list[tuple[Rectangle, str, Color]] = []
    for box, (name, score), color in zip(boxes, texts, colors, strict=True):
        font = font_for(name + score, size)
        ascent, descent = font.getmetrics()
        height = ascent + descent + 2
        if box is None or 6 * height > min(drawn.size):
            continue
        room = min(max(drawn.width / 2, 12 * size), drawn.width)  # a long name must not hide half of a small image
        text = truncate(name, font, room - 2 * pad, score)
        width = min(math.ceil(font.getlength(text)) + 2 * pad, drawn.width)
        positions = list(_label_positions(box, width, height, drawn.width, drawn.height))
        covered = [sum(_overlap(position, other) for other, *_ in labels) for position in positions]
        labels.append((positions[covered.index(min(covered))], text, color))
    draw = ImageDraw.Draw(drawn)
    for (x1, y1, x2, y2), text, color in reversed(labels):
        font = font_for(text, size)
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
        draw.text((x1 + pad, y1 + 1 + font.getmetrics()[0]), text, fill=text_color(color), font=font, anchor="ls")


def _label_positions(box: Rectangle, width: int, height: int, right: int, bottom: int) -> Iterator[Rectangle]:
    """List positions for a label inside the image, best first: at the corners of the box, then down its left edge."""
    x1, y1, x2, y2 = box
    corners = [(x1, y1 - height), (x1, y1), (x1, y2 + 1), (x2 + 1 - width, y1 - height), (x2 + 1 - width, y2 + 1)]
    for x, y in corners + [(x1, y1 + i * height) for i in range(1, 9)]:
        x, y = max(min(x, right - width), 0), max(min(y, bottom - height), 0)
        yield x, y, x + width, y + height


def _overlap(a: Rectangle, b: Rectangle) -> int:
    """Return the area of the intersection of two rectangles, whose right and lower ends are excluded."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def _boundaries(labels: np.ndarray, radius: int) -> Image.Image:
    """Return the boundaries between labels, widened by ``radius`` pixels on each side."""
    edges = np.zeros(labels.shape, np.uint8)
    edges[:, 1:][labels[:, 1:] != labels[:, :-1]] = 255
    edges[1:][labels[1:] != labels[:-1]] = 255
    image = Image.fromarray(edges)
    return image.filter(ImageFilter.BoxBlur(radius)).point(lambda v: 255 * (v > 0)) if radius else image


def _with_legend(
    drawn: Image.Image, labels: np.ndarray, class_names: Sequence[str], size: int, untinted: int | None
) -> Image.Image:
    """Add a legend of the occurring classes to the right of the image; the smallest are only counted."""
    counts = np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE]
    order = [int(i) for i in np.argsort(-counts, kind="stable") if counts[i]]
    row = round(1.6 * size)
    room = min(LEGEND_ROWS, max(4, drawn.height // row - 1))
    shown = order if len(order) <= room else order[: room - 1]
    colors = palette(len(class_names))
    rows: list[tuple[str, Color | None]] = []
    for i in shown:
        share = 100 * counts[i] / counts.sum()
        end = " <1%" if share < 0.5 else f" {share:.0f}%"
        name = one_line(class_names[i])
        text = truncate(name, font_for(name + end, size), 14 * size, end)
        rows.append((text, None if i == untinted else colors[i]))
    if len(shown) < len(order):
        rows.append((f"and {len(order) - len(shown)} more", None))
    if not rows:
        rows.append(("no labeled pixels", None))
    width = 4 * size + max(math.ceil(font_for(text, size).getlength(text)) for text, _ in rows)
    sheet = Image.new("RGB", (drawn.width + width, max(drawn.height, row * len(rows) + size)), (255, 255, 255))
    sheet.paste(drawn)
    draw = ImageDraw.Draw(sheet)
    for number, (text, color) in enumerate(rows):
        x, y = drawn.width + size, size // 2 + row * number
        middle = y + row // 2
        if color is not None:
            draw.rectangle((x, middle - size // 2, x + size, middle + size // 2), fill=color)
        draw.text((x + round(1.5 * size), middle), text, fill=(0, 0, 0), font=font_for(text, size), anchor="lm")
    return sheet
