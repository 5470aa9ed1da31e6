"""Drawings: the right colours in the right places, whatever the picture's size and the classes' names."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from transxnet.metrics.detection import Found
from transxnet.reports.colors import text_colour
from transxnet.reports.drawing import draw_detections, draw_label_map, indexed_map, palette
from transxnet.reports.fonts import font_for, one_line, shortened
from transxnet.utils.errors import UserError

GREY = (100, 100, 100)
NAN = float("nan")


def grey(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def found(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    scores: Sequence[float] | None = None,
    masks: Sequence[np.ndarray] | None = None,
) -> Found:
    """With masks as plain run lengths, which need no package to be written."""
    runs = None if masks is None else [_run_lengths(mask) for mask in masks]
    scores = [0.9] * len(labels) if scores is None else scores
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64), np.array(scores, np.float32), runs
    )


def _run_lengths(mask: np.ndarray) -> dict:
    flat = mask.T.ravel()
    counts, value = [0], False
    for pixel in flat.tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def lab(colours: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear sRGB (N, 3)."""
    xyz = colours @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def linear(colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    values = np.array(colours) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


# Viénot, Brettel and Mollon 1999, in linear sRGB.
PROTANOPIA = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


@pytest.mark.parametrize(
    ("sight", "apart"), [(np.eye(3), 17), (PROTANOPIA, 6), (DEUTERANOPIA, 6)], ids=["normal", "protan", "deutan"]
)
def test_twenty_colours_are_told_apart(sight, apart):
    seen = lab(np.clip(linear(palette(20)) @ sight.T, 0, 1))
    differences = np.linalg.norm(seen[:, None] - seen[None], axis=2) + 1e3 * np.eye(20)
    assert differences.min() > apart  # 2.3 is just noticeable


def test_a_class_keeps_its_colour_and_no_two_are_the_same():
    many = palette(1500)
    assert len(set(many)) == len(many) == 1500
    assert palette(0) == []
    assert all(palette(count) == many[:count] for count in (1, 19, 20, 21, 255))


def test_text_has_the_contrast_that_wcag_asks_for():
    for colour in [*palette(500), (0, 0, 0), (255, 255, 255), (118, 118, 118), (117, 117, 117)]:
        one, other = (float(linear([c])[0] @ [0.2126, 0.7152, 0.0722]) for c in (colour, text_colour(colour)))
        assert (max(one, other) + 0.05) / (min(one, other) + 0.05) >= 4.5


def test_a_box_is_drawn_along_its_own_pixels():
    picture = grey(200, 100)
    pixels = np.asarray(draw_detections(picture, found([[20, 30, 60, 80]], [2], [NAN]), ["a", ""]))
    colour = np.array(palette(2)[1])
    assert (pixels[30, 20:60] == colour).all() and (pixels[79, 20:60] == colour).all()
    assert (pixels[30:80, 20] == colour).all() and (pixels[30:80, 59] == colour).all()
    assert (pixels[35:75, 25:55] == GREY).all()
    assert (pixels[:, :19] == GREY).all() and (pixels[:, 61:] == GREY).all() and (pixels[81:] == GREY).all()
    assert (np.asarray(picture) == GREY).all()


@pytest.mark.parametrize(("width", "height", "line"), [(300, 250, 1), (1333, 800, 4), (4000, 3000, 14)])
def test_lines_are_as_wide_as_the_picture_asks(width, height, line):
    box = [width / 4, height / 4, width * 0.75, height * 0.75]
    pixels = np.asarray(draw_detections(grey(width, height), found([box], [1]), ["a"]))
    row = pixels[height // 2, : width // 2]
    assert (row == palette(1)[0]).all(axis=1).sum() == line


def test_masks_are_tinted_and_outlined_and_holes_left_alone():
    mask = np.zeros((100, 200), bool)
    mask[20:80, 20:80] = True
    mask[40:60, 40:60] = False
    mask[90:, 180:] = True  # in the picture's corner, where its edge is no edge of the object
    pixels = np.asarray(draw_detections(grey(200, 100), found([[20, 20, 200, 100]], [1], [NAN], [mask]), ["x"]))
    colour = np.array(palette(1)[0])
    tinted = np.round(0.6 * 100 + 0.4 * colour)
    np.testing.assert_array_equal(pixels[30, 30], tinted)
    np.testing.assert_array_equal(pixels[20:80, 79], np.tile(colour, (60, 1)))
    np.testing.assert_array_equal(pixels[50, 39], colour)
    assert (pixels[40:60, 40:60] == GREY).all()
    assert (pixels[:4] == GREY).all()
    np.testing.assert_array_equal(pixels[95, 190], tinted)


def test_boxes_beyond_the_picture_are_cut_or_left_out():
    names = ["a"]
    outside = [[-50, -50, -1, -1], [300, 10, 400, 50], [10, 101, 20, 120]]
    assert (np.asarray(draw_detections(grey(200, 100), found(outside, [1] * 3), names)) == GREY).all()
    pixels = np.asarray(draw_detections(grey(200, 100), found([[-50, 50, 100, 500]], [1], [NAN]), names))
    assert (pixels[50:, 99] == palette(1)[0]).all()
    assert (pixels[99, :100] == palette(1)[0]).all()


def test_labels_stand_clear_of_each_other_and_within_the_picture():
    colours = palette(12)
    boxes = [[150, 5, 199, 60]] * 5 + [[3, 170, 40, 199]] * 3
    alone = [
        np.asarray(draw_detections(grey(200, 200), found([box], [i + 1]), ["name"] * 12)) for i, box in enumerate(boxes)
    ]
    fills = [int((pixels == colours[i]).all(axis=2).sum()) for i, pixels in enumerate(alone)]
    labels = list(range(1, len(boxes) + 1))
    together = np.asarray(draw_detections(grey(200, 200), found(boxes, labels), ["name"] * 12))
    for i, box in enumerate(boxes):
        around = 2 * (box[2] - box[0] + box[3] - box[1])  # the box's own line, which others may cover
        assert (together == colours[i]).all(axis=2).sum() >= fills[i] - around


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (64, 300), (3000, 40)])
def test_any_size_of_picture_and_any_name(size):
    names = ["трамвай", "電車", "قطار", "🚋", "$x^2$", "two\nlines\x00", "\udcff", "", "w" * 5000, "é"]
    boxes = [[i, i, i + 9, i + 9] for i in range(10)]
    answer = found(boxes, range(1, 11), masks=[np.ones(size[::-1], bool)] * 10)
    assert draw_detections(grey(*size), answer, names).size == size
    labels = (np.arange(size[0] * size[1]).reshape(size[::-1]) % 10).astype(np.uint8)
    assert draw_label_map(grey(*size), labels, names).height >= size[1]


def test_a_long_name_leaves_half_of_the_picture_free():
    answer = found([[100, 100, 200, 200]], [1])
    pixels = np.asarray(draw_detections(grey(400, 300), answer, ["a name that is longer than one wants it to be " * 3]))
    width = (pixels == palette(1)[0]).all(axis=2)[:99].any(axis=0).sum()
    assert 150 < width <= 200


def test_a_picture_in_which_nothing_was_found_is_the_same():
    assert (np.asarray(draw_detections(grey(50, 40), found([], []), ["a"])) == GREY).all()


def test_a_label_without_a_class_is_refused():
    for label in (0, 3):
        with pytest.raises(UserError, match=f"from {label} to {label} and the 2 classes from 1 to 2"):
            draw_detections(grey(50, 50), found([[1, 1, 9, 9]], [label]), ["a", "b"])


def test_text_is_cut_where_it_does_not_fit():
    font = font_for("a long name", 12)
    cut = shortened("a long name", font, 60, " 98%")
    assert cut.endswith("… 98%") and cut.startswith("a")
    assert font.getlength(cut) <= 60 < font.getlength("a long name 98%")
    assert shortened("short", font, 60) == "short"
    assert one_line(" two\n lines\x00\udcff ") == "two lines"


def test_cyrillic_and_greek_are_drawn_as_what_they_are():
    empty = font_for("", 20).getmask("\uffff")
    for letter in "жЩλΩ":
        drawn = font_for(letter, 20).getmask(letter)
        assert (drawn.size, bytes(drawn)) != (empty.size, bytes(empty))


def labels_in_halves() -> np.ndarray:
    labels = np.zeros((60, 80), np.uint8)
    labels[:, 50:] = 1
    labels[:10] = 255
    return labels


def test_a_label_map_tints_all_but_what_is_ignored():
    pixels = np.asarray(draw_label_map(grey(80, 60), labels_in_halves(), ["a", "b"], legend=False))
    assert pixels.shape == (60, 80, 3)
    assert (pixels[:10] == GREY).all()
    for columns, colour in [(slice(0, 50), palette(2)[0]), (slice(51, 80), palette(2)[1])]:
        expected = 0.45 * 100 + 0.55 * np.array(colour)
        assert np.abs(pixels[11:, columns] - expected).max() <= 1
    assert (pixels[10:, 50] == 255).all() and (pixels[10] == 255).all()


def test_the_legend_names_the_largest_classes_first_and_counts_the_rest():
    labels = np.repeat(np.arange(30, dtype=np.uint8), 100).reshape(30, 100)
    labels[:, 40:] = 7
    sheet = np.asarray(draw_label_map(grey(100, 30), labels, [f"class {i}" for i in range(30)]))
    assert (sheet[:, 100:] == 255).all(axis=2).any()
    swatches = sheet[:, 100 + 10 + 5].tolist()  # a margin of one text's height, and half of a swatch
    shown = [tuple(colour) for colour, last in zip(swatches, [None, *swatches], strict=False) if colour != last]
    assert [colour for colour in shown if colour != (255, 255, 255)] == [palette(30)[7], *palette(2)]
    narrow = np.asarray(draw_label_map(grey(100, 30), np.full((30, 100), 255, np.uint8), ["a"]))
    assert narrow.shape[1] > 100


def test_an_indexed_map_keeps_its_labels_and_colours_in_png():
    labels = labels_in_halves()
    buffer = io.BytesIO()
    indexed_map(labels, 2).save(buffer, "PNG")
    with Image.open(buffer) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), labels)
        colours = np.asarray(image.convert("RGB"))
    assert (colours[labels == 1] == palette(2)[1]).all()
    assert (colours[labels == 255] == 0).all()


def test_label_maps_that_do_not_fit_are_refused():
    labels = labels_in_halves()
    with pytest.raises(UserError, match=r"labels are \(height, width\) \(60, 80\) and the picture is \(80, 60\)"):
        draw_label_map(grey(60, 80), labels, ["a", "b"])
    with pytest.raises(UserError, match="the label 1 and the 1 classes"):
        draw_label_map(grey(80, 60), labels, ["a"])
    with pytest.raises(UserError, match="1 to 255 classes, got 256"):
        indexed_map(labels, 256)
