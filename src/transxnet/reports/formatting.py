"""Format numbers, confusion matrices and images for reports."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

MATRIX_CLASSES = 25  # a confusion matrix of more classes is too large to read
CONFUSED_PAIRS = 20  # shown instead of a matrix
PAIRS_BELOW_MATRIX = 5
EXAMPLES = 6  # images, of the best and of the worst
PANEL = 512  # px, longer side of an image next to another


def percent(share: float, digits: int = 1) -> str:
    """Format a fraction in percent; a dash for NaN."""
    return "\u2013" if math.isnan(share) else f"{100 * share:.{digits}f}%"


def confusion_rows(counts: np.ndarray, names: Sequence[str]) -> dict[str, list]:
    """Return rows of (class, cells of (count, share of the row)), and the most confused pairs.

    Without rows for many classes, and without pairs for two, since the other part shows them.

    Args:
        counts: (C, C), true class by row, predicted by column.
        names: C class names.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    matrix = len(names) <= MATRIX_CLASSES
    rows = zip(names, counts.tolist(), shares.tolist(), strict=True)
    cells = [(name, list(zip(row, share, strict=True))) for name, row, share in rows] if matrix else []
    if len(names) <= 2:
        return {"rows": cells, "pairs": []}
    true, predicted = np.nonzero(counts * ~np.eye(len(names), dtype=bool))
    order = np.lexsort((-shares[true, predicted], -counts[true, predicted]))[
        : PAIRS_BELOW_MATRIX if matrix else CONFUSED_PAIRS
    ]
    pairs = [(names[i], names[j], int(counts[i, j]), float(shares[i, j])) for i, j in np.c_[true, predicted][order]]
    return {"rows": cells, "pairs": pairs}


def data_url(image: Image.Image, side: int) -> str:
    """Return the image, downsized to at most ``side`` pixels, as a JPEG data URL."""
    image = image.convert("RGB")
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def fit_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of an image resized to a panel."""
    scale = PANEL / max(size)
    return max(1, round(scale * size[0])), max(1, round(scale * size[1]))


def best_and_worst(score: np.ndarray, weight: np.ndarray, count: int) -> tuple[list[int], list[int]]:
    """Return indices of the images with the highest scores, best first, and of the others with the lowest, worst first.

    Args:
        score: (N,) score of each image; NaN for images that are not shown.
        weight: (N,) sorts equal scores, largest first; images with weight 0 are never among the best.
        count: maximum number of images in each list.
    """
    known = ~np.isnan(score)
    best = [int(i) for i in np.lexsort((-weight, -score)) if known[i] and weight[i] > 0][:count]
    worst = [int(i) for i in np.lexsort((-weight, score)) if known[i] and i not in best][:count]
    return best, worst
