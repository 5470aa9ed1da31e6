"""Object masks as in COCO annotation files: polygons, and compressed or uncompressed run lengths."""

from typing import Any

import numpy as np

from transxnet.utils.optional_packages import require_package

FARTHEST = 10
"""Polygons may extend this many times the image's longer side beyond it; rasterizing follows their outline."""


LONGEST = 2_000_000
"""Largest total length in pixels of an object's polygon outlines; rasterizing needs over 100 bytes per pixel."""


class BadMask(Exception):
    """A segmentation that cannot be decoded; the message gives the reason."""


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode the mask of one object, as pycocotools does.

    Args:
        segmentation: an annotation's entry: a list of polygons ``[x1, y1, x2, y2, ...]`` in pixels, where those with
            fewer than three corners are ignored, also with [x, y] pairs; or ``{"size": [H, W], "counts": ...}`` with
            the lengths of alternating runs of zeros and ones, column by column, as numbers or as COCO's compressed
            string.
        height: H of the image.
        width: W of the image.

    Returns:
        (H, W) bool.

    Raises:
        BadMask: another format, another size, or run lengths that do not cover the image.
        UserError: pycocotools, which rasterizes polygons, is not installed.
    """
    if isinstance(segmentation, dict):
        lengths = _run_lengths(segmentation, height, width)
        return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T
    coco = _pycocotools()
    polygons = _polygons(segmentation, height, width)
    return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width))).astype(bool)


def check_mask(segmentation: Any, height: int, width: int) -> None:
    """Raise BadMask if :func:`decode_mask` would, without creating the mask."""
    if isinstance(segmentation, dict):
        _run_lengths(segmentation, height, width)
    else:
        _polygons(segmentation, height, width)


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask (H, W) as COCO's compressed run lengths, ready for JSON.

    Raises:
        UserError: pycocotools is not installed.
    """
    encoded = _pycocotools().encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def encode_part(part: np.ndarray, left: int, top: int, height: int, width: int) -> dict[str, Any]:
    """Encode a mask (height, width) that is empty outside of a part (h, w), without creating it.

    Args:
        part: mask of the part.
        left: column of the part's first pixel in the image.
        top: row of the part's first pixel in the image.
        height: height of the image.
        width: width of the image.

    Returns:
        The same as :func:`encode_mask` of the whole mask.

    Raises:
        UserError: pycocotools is not installed.
    """
    change = np.diff(part.T.astype(np.int8), axis=1, prepend=0, append=0)  # run lengths go down each column
    starts, ends = ((x + left) * height + y + top for x, y in (np.nonzero(change == step) for step in (1, -1)))
    ended = starts[1:] != ends[:-1]  # runs continue in the next column if the part is as high as the image
    starts, ends = starts[np.r_[True, ended][: len(starts)]], ends[np.r_[ended, True][: len(ends)]]
    bounds = np.concatenate([[0], np.stack([starts, ends], 1).ravel(), [height * width]])
    lengths = np.diff(bounds)
    counts = lengths[: np.flatnonzero(lengths)[-1] + 1].tolist()
    encoded = _pycocotools().frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": encoded["counts"].decode("ascii")}


def crop_segmentation(segmentation: Any, window: tuple[int, int, int, int], height: int, width: int) -> Any:
    """Return an annotation's entry for a part of its image, for :func:`decode_mask` at the size of the part.

    Args:
        segmentation: the entry for the image.
        window: left, top, right and bottom of the part in pixels.
        height: height of the image.
        width: width of the image.

    Raises:
        BadMask: as decode_mask.
        UserError: pycocotools is not installed.
    """
    left, top, right, bottom = window
    if isinstance(segmentation, dict):
        return encode_mask(decode_mask(segmentation, height, width)[top:bottom, left:right])
    outlines = [np.reshape(polygon, (-1, 2)) - [left, top] for polygon in _polygons(segmentation, height, width)]
    return [outline.ravel().tolist() for outline in outlines]


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Bounding box (x1, y1, x2, y2) of a mask (H, W), x2 and y2 exclusive; None if the mask is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _polygons(segmentation: Any, height: int, width: int) -> list[list[float]]:
    """Polygons with three corners or more; pycocotools would take one with two corners for a box."""
    if not segmentation:
        raise BadMask("the segmentation is missing")
    if not isinstance(segmentation, list) or not all(isinstance(part, list) for part in segmentation):
        raise BadMask("the segmentation is neither a list of polygons nor RLE")
    if len(segmentation) >= 3 and all(isinstance(part, list) and len(part) == 2 for part in segmentation):
        segmentation = [segmentation]  # one polygon, of [x, y] pairs
    kept = [outline for outline in map(_outline, segmentation) if len(outline) >= 3]
    if not kept:
        raise BadMask("no polygon has three points")
    far, length = FARTHEST * max(height, width), 0.0
    for outline in kept:
        if not (np.abs(outline) <= far).all():  # also for NaN
            raise BadMask(f"a polygon extends beyond {far} pixels")
        sides = np.abs(np.diff(outline, axis=0, append=outline[None, 0]))
        length += sides.max(axis=1).sum() + len(sides)
        if length > LONGEST:
            raise BadMask(f"its polygon outlines are longer than {LONGEST:,} pixels in total")
    return [outline.ravel().tolist() for outline in kept]


def _outline(part: list) -> np.ndarray:
    """Corners (N, 2) of a polygon ``[x1, y1, x2, y2, ...]`` or ``[[x1, y1], [x2, y2], ...]``."""
    try:
        corners = np.asarray(part, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadMask("a polygon contains a value that is not a number") from None
    if corners.ndim == 2 and corners.shape[1] == 2:
        return corners
    if corners.ndim != 1:
        raise BadMask(f"a polygon has the shape {list(corners.shape)}; accepted: [x1, y1, x2, y2, ...]")
    if len(corners) < 6:
        return np.zeros((0, 2))
    if len(corners) % 2:
        raise BadMask(f"a polygon has an odd number of coordinates, {len(corners)}")
    return corners.reshape(-1, 2)


def _run_lengths(segmentation: dict, height: int, width: int) -> np.ndarray:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise BadMask(f"the mask has size {size}, the image [{height}, {width}]")
    if isinstance(counts, str):
        lengths = _decompress(counts)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        lengths = np.array([min(max(count, -1), height * width + 1) for count in counts], dtype=np.int64)
    else:
        raise BadMask("its counts are neither a string nor integers")
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= height * width:  # their sum could overflow
        raise BadMask(f"a run length is negative or exceeds the {height * width} pixels of the image")
    if lengths.sum() != height * width:
        raise BadMask(f"its run lengths add up to {lengths.sum()} pixels, the image has {height * width}")
    return lengths


def _decompress(text: str) -> np.ndarray:
    """Decode COCO's string: 5 bits per character, the sixth bit means "continued", deltas to the value two before."""
    codes = np.frombuffer(text.encode(errors="replace"), np.uint8).astype(np.int64) - 48
    more = (codes & 32) > 0
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or more[-1]:
        raise BadMask("its counts are not COCO's compressed run lengths")
    starts = np.flatnonzero(np.concatenate([[True], ~more[:-1]]))
    ends = np.flatnonzero(~more)
    width = ends - starts + 1
    if width.max() > 12:  # over 60 bits
        raise BadMask("its counts are not COCO's compressed run lengths")
    place = np.arange(len(codes)) - np.repeat(starts, width)
    lengths = np.add.reduceat((codes & 31) << (5 * place), starts)
    lengths -= np.where(codes[ends] & 16, 1 << (5 * width), 0)  # two's complement
    lengths[1::2] = np.cumsum(lengths[1::2])
    lengths[2::2] = np.cumsum(lengths[2::2])
    return lengths


def _pycocotools() -> Any:
    require_package("pycocotools", "transxnet[detect]", "reading and writing masks")
    from pycocotools import mask

    return mask
