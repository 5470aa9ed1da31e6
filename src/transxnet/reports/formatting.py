"""Figures, confusions and pictures in the form in which pages show them."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

MATRIX_CLASSES = 25  # with more, a confusion matrix is no longer read cell by cell
CONFUSED_PAIRS = 20
EXAMPLES = 6  # pictures of either kind, the best and the worst
PANEL = 512  # px, longer side of a picture that stands beside another


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 in percent; a dash for NaN, where there was nothing to measure."""
    return "\u2013" if math.isnan(share) else f"{100 * share:.{digits}f}%"


def duration(seconds: float) -> str:
    """Seconds in the two units that suit them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def confusion_rows(counts: np.ndarray, names: Sequence[str]) -> dict[str, list]:
    """Rows of (class, cells of (count, share of the row)); or with many classes the pairs confused most often.

    Args:
        counts: (C, C), true class by row, answer by column.
        names: of the C classes.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(names) <= MATRIX_CLASSES:
        rows = zip(names, counts.tolist(), shares.tolist(), strict=True)
        return {"rows": [(name, list(zip(row, share, strict=True))) for name, row, share in rows], "pairs": []}
    true, said = np.nonzero(counts * ~np.eye(len(names), dtype=bool))
    order = np.lexsort((-shares[true, said], -counts[true, said]))[:CONFUSED_PAIRS]
    pairs = [(names[i], names[j], int(counts[i, j]), float(shares[i, j])) for i, j in np.c_[true, said][order]]
    return {"rows": [], "pairs": pairs}


def data_url(picture: Image.Image, side: int) -> str:
    """The picture, shrunk to ``side`` pixels where it is larger, as a JPEG within the page."""
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def fit_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture that is shrunk, or enlarged, to a panel."""
    scale = PANEL / max(size)
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def best_and_worst(quality: np.ndarray, weight: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Indices of the images that were answered best, best first, and of the worst of the others, worst first.

    Args:
        quality: (N,) of each image's answer; NaN for images that are not to be shown.
        weight: (N,) how much there was to answer for: among equals the weightier come first, and among the best only
            those that have any.
        count: how many of either kind at most.
    """
    known = ~np.isnan(quality)
    best = [int(i) for i in np.lexsort((-weight, -quality)) if known[i] and weight[i] > 0][:count]
    worst = [int(i) for i in np.lexsort((-weight, quality)) if known[i] and i not in best][:count]
    return best, worst
