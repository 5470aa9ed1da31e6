"""Masks against pycocotools."""

import sys

import numpy as np
import pytest

from transxnet.data.reading.masks import (
    BadMask,
    check_mask,
    crop_segmentation,
    decode_mask,
    encode_mask,
    encode_part,
    mask_box,
)
from transxnet.utils.errors import UserError

coco = pytest.importorskip("pycocotools.mask")


def random_masks(count: int = 60):
    generator = np.random.default_rng(0)
    for number in range(count):
        height, width = generator.integers(1, 70, 2)
        mask = np.zeros((height, width), bool)
        if number % 3 == 0:
            mask = generator.random((height, width)) < generator.random()
        elif number % 3 == 1:
            top, left = generator.integers(0, height), generator.integers(0, width)
            mask[top : top + generator.integers(1, 40), left : left + generator.integers(1, 40)] = True
        elif number % 2:
            mask[:] = True
        yield mask


def uncompressed(mask: np.ndarray) -> dict:
    pixels = mask.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], pixels]).astype(int)))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, len(pixels)]).tolist()}


@pytest.mark.parametrize("form", [uncompressed, encode_mask])
def test_run_lengths_match_coco(form):
    for mask in random_masks():
        encoded = form(mask)
        assert (decode_mask(encoded, *mask.shape) == mask).all()
        theirs = encoded if form is encode_mask else coco.frPyObjects(encoded, *mask.shape)
        assert (coco.decode(theirs) == mask).all()
        check_mask(encoded, *mask.shape)


def test_compressed_run_lengths_match_coco():
    for mask in random_masks():
        assert encode_mask(mask)["counts"] == coco.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


def test_run_lengths_go_down_the_columns():
    mask = decode_mask({"size": [2, 3], "counts": [1, 3, 2]}, 2, 3)
    assert mask.tolist() == [[False, True, False], [True, True, False]]


def test_long_runs_take_many_characters():
    mask = np.zeros((3000, 4000), bool)
    mask[17, 3999] = True
    assert (decode_mask(encode_mask(mask), 3000, 4000) == mask).all()


def test_polygons_are_rasterized_as_by_coco():
    generator = np.random.default_rng(1)
    for number in range(100):
        height, width = (int(side) for side in generator.integers(3, 80, 2))
        reach = 1.5 if number % 4 == 0 else 1.0  # some extend beyond the image
        polygons = [
            (generator.random(2 * generator.integers(3, 12)) * reach * max(height, width) - (reach - 1) * 20).tolist()
            for _ in range(generator.integers(1, 4))
        ]
        theirs = coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))
        assert (decode_mask(polygons, height, width) == theirs).all()


def test_a_polygon_of_a_square_is_its_pixels():
    mask = decode_mask([[2, 1, 5, 1, 5, 4, 2, 4]], 6, 8)
    truth = np.zeros((6, 8), bool)
    truth[1:4, 2:5] = True
    assert (mask == truth).all()


def test_polygon_of_two_corners_is_ignored():
    """pycocotools would read it as a box."""
    square = [2, 1, 5, 1, 5, 4, 2, 4]
    assert (decode_mask([[0, 0, 7, 5], square], 6, 8) == decode_mask([square], 6, 8)).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "the segmentation is missing"),
        ([], "the segmentation is missing"),
        ("abc", "neither a list of polygons nor RLE"),
        ([1, 2, 3, 4, 5, 6], "neither a list of polygons nor RLE"),
        ([[1, 2, 3, 4]], "no polygon has three points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "an odd number of coordinates, 7"),
        ([[1, 2, 3, 4, 5, "x"]], "not a number"),
        ([[1, 2, 3, 4, 5, float("nan")]], "beyond 80 pixels"),
        ([[1, 2, 3, 4, 5, 1e9]], "beyond 80 pixels"),
        ({}, "has size None, the image"),
        ({"size": [8, 6], "counts": [48]}, r"has size \[8, 6\], the image \[6, 8\]"),
        ({"size": [6, 8], "counts": [40]}, "add up to 40 pixels, the image has 48"),
        ({"size": [6, 8], "counts": [50]}, "exceeds the 48 pixels of the image"),
        ({"size": [6, 8], "counts": [50, -2]}, "exceeds the 48 pixels of the image"),
        ({"size": [6, 8], "counts": [10**30]}, "exceeds the 48 pixels of the image"),
        ({"size": [6, 8], "counts": [4.5]}, "neither a string nor integers"),
        ({"size": [6, 8], "counts": None}, "neither a string nor integers"),
        ({"size": [6, 8], "counts": ""}, "not COCO's compressed run lengths"),
        ({"size": [6, 8], "counts": "é"}, "not COCO's compressed run lengths"),
        ({"size": [6, 8], "counts": "P"}, "not COCO's compressed run lengths"),
        ({"size": [6, 8], "counts": "o" * 20 + "0"}, "not COCO's compressed run lengths"),
        ({"size": [6, 8], "counts": "5"}, "add up to 5 pixels, the image has 48"),
    ],
)
def test_invalid_mask_is_refused_with_the_reason(segmentation, message):
    for function in (check_mask, decode_mask):
        with pytest.raises(BadMask, match=message):
            function(segmentation, 6, 8)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[[2, 1], [5, 1], [5, 4], [2, 4]]],
        [[2, 1], [5, 1], [5, 4], [2, 4]],
        [["2", "1", "5", "1", "5", "4", "2", "4"]],
        [[["2.0", 1], [5, "1"], [5, 4], [2, 4]], [[0, 0], [1, 1]]],
        [[[2, 1], [3, 1], [4, 1], [5, 1], [5, 4], [4, 4], [3, 4], [2, 4]]],
    ],
)
def test_polygons_of_pairs_and_text_are_used(segmentation):
    check_mask(segmentation, 6, 8)
    assert (decode_mask(segmentation, 6, 8) == decode_mask([[2, 1, 5, 1, 5, 4, 2, 4]], 6, 8)).all()


@pytest.mark.parametrize("corners", [[[[1, 2, 3]] * 6], [[[1, 2], [3, 4], [5]]], [[[[1, 2]]] * 6], [[{"x": 1}] * 6]])
def test_polygons_of_other_shapes_are_refused(corners):
    for function in (check_mask, decode_mask):
        with pytest.raises(BadMask, match=r"accepted: \[x1, y1|not a number"):
            function(corners, 6, 8)


def test_the_box_of_a_mask():
    mask = np.zeros((6, 8), bool)
    assert mask_box(mask) is None
    mask[2, 3] = True
    assert mask_box(mask) == (3, 2, 4, 3)
    mask[5, 0] = True
    assert mask_box(mask) == (0, 2, 4, 6)


def test_polygons_without_pycocotools_are_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(UserError, match=r"pip install 'transxnet\[detect\]'"):
        decode_mask([[2, 1, 5, 1, 5, 4]], 6, 8)
    with pytest.raises(UserError, match="pycocotools"):
        encode_mask(np.zeros((2, 2)))


def test_mask_of_a_part_is_encoded_like_the_whole_mask():
    dice = np.random.default_rng(0)
    for left, top, height, width in ((0, 0, 7, 5), (3, 2, 9, 8), (3, 0, 7, 8), (0, 4, 11, 5)):
        for share in (0.0, 0.5, 1.0):
            part, whole = dice.random((7, 5)) < share, np.zeros((height, width), bool)
            whole[top : top + 7, left : left + 5] = part
            assert encode_part(part, left, top, height, width) == encode_mask(whole)


def test_cropped_masks_are_those_of_the_part():
    window, dice = (3, 2, 15, 18), np.random.default_rng(1)
    mask = dice.random((20, 24)) < 0.5
    polygon = [[1, 1, 20, 3, 12, 17], [2, 12, 8, 12, 8, 19, 2, 19]]
    for segmentation in (encode_mask(mask), uncompressed(mask), polygon):
        expected = decode_mask(segmentation, 20, 24)[2:18, 3:15]
        found = decode_mask(crop_segmentation(segmentation, window, 20, 24), 16, 12)
        # pycocotools truncates coordinates, so pixels on the outline of a polygon differ left of and above the part
        assert (found != expected).sum() <= (3 if segmentation is polygon else 0)
