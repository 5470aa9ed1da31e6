"""Numbers, confusion matrices and images as shown on pages, against values written by hand."""

import base64
import io
import math

import numpy as np
import pytest
from PIL import Image

from transxnet.reports.formatting import best_and_worst, confusion_rows, data_url, fit_size, percent


def test_percent_rounds_and_shows_nan_as_a_dash():
    assert [percent(0.12345), percent(1, 0), percent(0.5, 2), percent(math.nan)] == ["12.3%", "100%", "50.00%", "–"]  # noqa: RUF001


def test_confusion_rows_hold_counts_and_shares_of_the_row():
    result = confusion_rows(np.array([[3, 1], [0, 0]]), ["a", "b"])
    assert result == {"rows": [("a", [(3, 0.75), (1, 0.25)]), ("b", [(0, 0.0), (0, 0.0)])], "pairs": []}


def test_confusion_pairs_are_sorted_by_count_then_share():
    counts = np.diag([10, 10, 30, *[1] * 23])
    counts[0, 1], counts[1, 2], counts[2, 0] = 2, 5, 2
    result = confusion_rows(counts, [f"c{i}" for i in range(26)])
    assert result["rows"] == []
    assert [pair[:3] for pair in result["pairs"]] == [("c1", "c2", 5), ("c0", "c1", 2), ("c2", "c0", 2)]
    assert [pair[3] for pair in result["pairs"]] == pytest.approx([5 / 15, 2 / 12, 2 / 32], abs=1e-12)


@pytest.mark.parametrize(("size", "shown"), [((400, 100), (64, 16)), ((20, 30), (20, 30))])
def test_data_url_is_a_jpeg_that_is_never_enlarged(size, shown):
    url = data_url(Image.new("RGBA", size, (200, 30, 30, 255)), 64)
    head, content = url.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert (image.format, image.size) == ("JPEG", shown)
        assert np.abs(np.asarray(image).astype(int) - [200, 30, 30]).max() < 8


@pytest.mark.parametrize(("size", "panel"), [((1024, 768), (512, 384)), ((10, 20), (256, 512)), ((5000, 1), (512, 1))])
def test_fit_size_scales_the_longer_side_to_the_panel(size, panel):
    assert fit_size(size) == panel


def test_best_and_worst_do_not_overlap_and_skip_nan():
    score = np.array([0.5, np.nan, 1.0, 1.0, 0.0, 1.0])
    best, worst = best_and_worst(score, np.array([1, 9, 2, 5, 1, 0]), 2)
    assert best == [3, 2]  # equal scores by weight; zero weight is excluded
    assert worst == [4, 0]
    assert best_and_worst(score, np.ones(6), 10) == ([2, 3, 5, 0, 4], [])
