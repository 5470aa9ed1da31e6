"""Boxes, masks and label maps are drawn in the right colors and places, for any image size and class name."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from transxnet.data.reading.masks import decode_mask, encode_mask
from transxnet.metrics.detection import Detections
from transxnet.reports.colors import palette
from transxnet.reports.drawing import background_class, draw_detections, draw_label_map, enlarge, indexed_map
from transxnet.utils.errors import UserError

GRAY = (100, 100, 100)
NAN = float("nan")


def gray(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), GRAY)


def detections(
    boxes: Sequence[Sequence[float]],
    labels: Sequence[int],
    scores: Sequence[float] | None = None,
    masks: Sequence[np.ndarray] | None = None,
) -> Detections:
    """Detections with masks as uncompressed run lengths, which need no package to encode."""
    runs = None if masks is None else [_run_lengths(mask) for mask in masks]
    scores = [0.9] * len(labels) if scores is None else scores
    return Detections(
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


def test_box_is_drawn_along_its_own_pixels():
    image = gray(200, 100)
    pixels = np.asarray(draw_detections(image, detections([[20, 30, 60, 80]], [2], [NAN]), ["a", ""]))
    color = np.array(palette(2)[1])
    assert (pixels[30, 20:60] == color).all() and (pixels[79, 20:60] == color).all()
    assert (pixels[30:80, 20] == color).all() and (pixels[30:80, 59] == color).all()
    assert (pixels[35:75, 25:55] == GRAY).all()
    assert (pixels[:, :19] == GRAY).all() and (pixels[:, 61:] == GRAY).all() and (pixels[81:] == GRAY).all()
    assert (np.asarray(image) == GRAY).all()


@pytest.mark.parametrize(("width", "height", "line"), [(300, 250, 1), (1333, 800, 4), (4000, 3000, 14)])
def test_line_width_depends_on_image_size(width, height, line):
    box = [width / 4, height / 4, width * 0.75, height * 0.75]
    pixels = np.asarray(draw_detections(gray(width, height), detections([box], [1]), ["a"]))
    row = pixels[height // 2, : width // 2]
    assert (row == palette(1)[0]).all(axis=1).sum() == line


def test_masks_are_tinted_and_outlined_without_holes():
    mask = np.zeros((100, 200), bool)
    mask[20:80, 20:80] = True
    mask[40:60, 40:60] = False
    mask[90:, 180:] = True  # in the corner of the image, whose border is not an edge of the object
    pixels = np.asarray(draw_detections(gray(200, 100), detections([[20, 20, 200, 100]], [1], [NAN], [mask]), ["x"]))
    color = np.array(palette(1)[0])
    tinted = np.round(0.6 * 100 + 0.4 * color)
    np.testing.assert_array_equal(pixels[30, 30], tinted)
    np.testing.assert_array_equal(pixels[20:80, 79], np.tile(color, (60, 1)))
    np.testing.assert_array_equal(pixels[50, 39], color)
    assert (pixels[40:60, 40:60] == GRAY).all()
    assert (pixels[:4] == GRAY).all()
    np.testing.assert_array_equal(pixels[95, 190], tinted)


def test_boxes_outside_the_image_are_clipped_or_skipped():
    names = ["a"]
    outside = [[-50, -50, -1, -1], [300, 10, 400, 50], [10, 101, 20, 120]]
    assert (np.asarray(draw_detections(gray(200, 100), detections(outside, [1] * 3), names)) == GRAY).all()
    pixels = np.asarray(draw_detections(gray(200, 100), detections([[-50, 50, 100, 500]], [1], [NAN]), names))
    assert (pixels[50:, 99] == palette(1)[0]).all()
    assert (pixels[99, :100] == palette(1)[0]).all()


def test_labels_do_not_overlap_and_stay_in_the_image():
    colors = palette(12)
    boxes = [[150, 5, 199, 60]] * 5 + [[3, 170, 40, 199]] * 3
    alone = [
        np.asarray(draw_detections(gray(200, 200), detections([box], [i + 1]), ["name"] * 12))
        for i, box in enumerate(boxes)
    ]
    fills = [int((pixels == colors[i]).all(axis=2).sum()) for i, pixels in enumerate(alone)]
    labels = list(range(1, len(boxes) + 1))
    together = np.asarray(draw_detections(gray(200, 200), detections(boxes, labels), ["name"] * 12))
    for i, box in enumerate(boxes):
        around = 2 * (box[2] - box[0] + box[3] - box[1])  # the outline of the box, which others may cover
        assert (together == colors[i]).all(axis=2).sum() >= fills[i] - around


@pytest.mark.parametrize("size", [(16, 16), (1, 1), (64, 300), (3000, 40)])
def test_any_image_size_and_class_name(size):
    names = ["трамвай", "電車", "قطار", "🚋", "$x^2$", "two\nlines\x00", "\udcff", "", "w" * 5000, "é"]
    boxes = [[i, i, i + 9, i + 9] for i in range(10)]
    found = detections(boxes, range(1, 11), masks=[np.ones(size[::-1], bool)] * 10)
    assert draw_detections(gray(*size), found, names).size == size
    labels = (np.arange(size[0] * size[1]).reshape(size[::-1]) % 10).astype(np.uint8)
    assert draw_label_map(gray(*size), labels, names).height >= size[1]


def test_long_name_leaves_half_of_the_image_free():
    found = detections([[100, 100, 200, 200]], [1])
    pixels = np.asarray(draw_detections(gray(400, 300), found, ["a class name that is too long for its box " * 3]))
    width = (pixels == palette(1)[0]).all(axis=2)[:99].any(axis=0).sum()
    assert 150 < width <= 200


def test_image_without_detections_is_unchanged():
    assert (np.asarray(draw_detections(gray(50, 40), detections([], []), ["a"])) == GRAY).all()


def test_label_without_class_name_raises():
    for label in (0, 3):
        with pytest.raises(UserError, match=f"must be 1 to 2 for 2 classes, got {label} to {label}"):
            draw_detections(gray(50, 50), detections([[1, 1, 9, 9]], [label]), ["a", "b"])


def labels_in_halves() -> np.ndarray:
    labels = np.zeros((60, 80), np.uint8)
    labels[:, 50:] = 1
    labels[:10] = 255
    return labels


def test_label_map_tints_all_but_ignored_pixels():
    pixels = np.asarray(draw_label_map(gray(80, 60), labels_in_halves(), ["a", "b"], legend=False))
    assert pixels.shape == (60, 80, 3)
    assert (pixels[:10] == GRAY).all()
    for columns, color in [(slice(0, 50), palette(2)[0]), (slice(51, 80), palette(2)[1])]:
        expected = 0.55 * 100 + 0.45 * np.array(color)
        assert np.abs(pixels[11:, columns] - expected).max() <= 1
    assert (pixels[10:, 50] == 255).all() and (pixels[10] == 255).all()


def test_untinted_class_keeps_its_own_color_up_to_the_boundary():
    image = Image.new("RGB", (80, 60), (200, 40, 40))
    pixels = np.asarray(draw_label_map(image, labels_in_halves(), ["a", "b"], untinted=0, legend=False))
    assert (pixels[11:, :50] == (200, 40, 40)).all()
    assert (pixels[11:, 51:] != (200, 40, 40)).any(axis=2).all()
    assert (pixels[10:, 50] == 255).all()


@pytest.mark.parametrize(("names", "untinted"), [(["a", "b"], 0), (["b", "Background"], 1), (["background", "sky"], 0)])
def test_background_class_is_the_named_or_most_frequent_one(names, untinted):
    assert background_class(labels_in_halves(), names) == untinted
    assert background_class(np.full((2, 2), 255, np.uint8), ["a"]) is None


def test_legend_names_largest_classes_first():
    labels = np.repeat(np.arange(30, dtype=np.uint8), 100).reshape(30, 100)
    labels[:, 40:] = 7
    sheet = np.asarray(draw_label_map(gray(100, 30), labels, [f"class {i}" for i in range(30)]))
    assert (sheet[:, 100:] == 255).all(axis=2).any()
    swatches = sheet[:, 100 + 10 + 5].tolist()  # a margin of one text height, and half of a swatch
    shown = [tuple(color) for color, last in zip(swatches, [None, *swatches], strict=False) if color != last]
    assert [color for color in shown if color != (255, 255, 255)] == [palette(30)[7], *palette(2)]
    narrow = np.asarray(draw_label_map(gray(100, 30), np.full((30, 100), 255, np.uint8), ["a"]))
    assert narrow.shape[1] > 100


def test_indexed_map_keeps_labels_and_colors_in_png():
    labels = labels_in_halves()
    buffer = io.BytesIO()
    indexed_map(labels, 2).save(buffer, "PNG")
    with Image.open(buffer) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), labels)
        colors = np.asarray(image.convert("RGB"))
    assert (colors[labels == 1] == palette(2)[1]).all()
    assert (colors[labels == 255] == 0).all()


def test_label_map_of_another_size_or_class_count_raises():
    labels = labels_in_halves()
    with pytest.raises(UserError, match=r"the \(height, width\) of the image, \(80, 60\), got \(60, 80\)"):
        draw_label_map(gray(60, 80), labels, ["a", "b"])
    with pytest.raises(UserError, match="must be 0 to 0 for 1 classes, got 1"):
        draw_label_map(gray(80, 60), labels, ["a"])
    with pytest.raises(UserError, match="1 to 255 classes, got 256"):
        indexed_map(labels, 256)


def test_enlarging_scales_image_boxes_and_masks():
    mask = np.zeros((50, 100), bool)
    mask[10:20, 30:50] = True
    small = Detections(np.array([[30, 10, 50, 20]], np.float32), np.array([1]), np.array([0.9]), [encode_mask(mask)])
    image, large = enlarge(gray(100, 50), small)
    assert image.size == (600, 300)
    assert large.boxes.tolist() == [[180, 60, 300, 120]]
    assert np.argwhere(decode_mask(large.masks[0], 300, 600)).min(0).tolist() == [60, 180]
    assert decode_mask(large.masks[0], 300, 600).sum() == 36 * mask.sum()


def test_large_images_are_not_enlarged():
    image, none = gray(512, 20), Detections(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    assert enlarge(image, none) == (image, none)
