"""Segment an image tile by tile, in the memory of one row of tiles."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from transxnet.data.tiling import Tiling


def tiled_logits(logits: Callable[[Tensor], Tensor], image: Tensor, tiling: Tiling) -> Iterator[Tensor]:
    """Compute the logits of an image from those of its tiles, blended where tiles overlap.

    As in sliding window inference of mmsegmentation and MONAI, logits are averaged. The weights are those of
    :func:`blend_weights`.

    Args:
        logits: computes the logits (K, h, w) of a tile (C, h, w).
        image: (C, H, W).
        tiling: the tiles.

    Yields:
        Logits (K, h, W) of the next h rows of the image, from the top. Two rows of tiles are in memory at most.
    """
    height, width = image.shape[1:]
    columns = list(zip(tiling.spans(width), blend_weights(width, tiling), strict=True))
    rows = tiling.spans(height)
    ends = [start for start, _ in rows[1:]] + [height]
    begun: Tensor | None = None
    for (top, bottom), down, end in zip(rows, blend_weights(height, tiling), ends, strict=True):
        strip: Tensor | None = None
        for (left, right), across in columns:
            tile = logits(image[:, top:bottom, left:right])
            if strip is None:
                strip = tile.new_zeros(len(tile), bottom - top, width)
            strip[..., left:right] += tile * (down[:, None] * across).to(tile)
        assert strip is not None
        if begun is not None:
            strip[:, : begun.shape[1]] += begun
        yield strip[:, : end - top]
        begun = strip[:, end - top :]


def blend_weights(side: int, tiling: Tiling) -> list[Tensor]:
    """Return the weights of the pixels of each tile along a side of an image.

    A tile's weight is zero in the quarter of the overlap next to its border, where the network lacks context, and
    rises over the next half as a cosine. The weights of all tiles add up to 1 at each pixel.
    """
    spans = tiling.spans(side)
    weights = []
    for start, end in spans:
        place = torch.arange(start, end) + 0.5
        before = place - start if start else torch.full_like(place, torch.inf)
        after = end - place if end < side else torch.full_like(place, torch.inf)
        ramp = (2 * torch.minimum(before, after) / max(1, tiling.shared) - 0.5).clamp(0, 1)
        weights.append((1 - torch.cos(torch.pi * ramp)) / 2 if tiling.shared else torch.ones_like(place))
    total = torch.zeros(side)
    for (start, end), weight in zip(spans, weights, strict=True):
        total[start:end] += weight
    return [weight / total[start:end] for (start, end), weight in zip(spans, weights, strict=True)]
