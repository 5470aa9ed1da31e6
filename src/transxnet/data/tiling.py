"""Cut images into overlapping tiles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transxnet.utils.errors import UserError

OVERLAP = 0.2
"""Default overlap of neighboring tiles, as a fraction of their side."""

MIN_TILE, MAX_OVERLAP = 32, 0.9

Window = tuple[int, int, int, int]
"""Left, top, right and bottom of a tile in pixels of the image, as in :meth:`PIL.Image.Image.crop`."""


@dataclass(frozen=True)
class Tiling:
    """A grid of tiles that covers an image.

    The tiles are square, or smaller along a side on which the image is smaller. They are spread evenly, so neighbors
    overlap at least as much as requested.

    Args:
        size: side of the tiles in pixels.
        overlap: fraction of the side that neighboring tiles share at least.

    Raises:
        UserError: a value is out of range.
    """

    size: int
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if self.size < MIN_TILE:
            raise UserError(f"tile must be at least {MIN_TILE} pixels, got {self.size}.")
        if not 0 <= self.overlap <= MAX_OVERLAP:
            raise UserError(f"overlap must be 0 to {MAX_OVERLAP:g}, got {self.overlap:g}.")

    @property
    def shared(self) -> int:
        """Pixels that neighboring tiles share at least."""
        return round(self.size * self.overlap)

    def spans(self, side: int) -> list[tuple[int, int]]:
        """Return start and end of the tiles along a side of an image."""
        if side <= self.size:
            return [(0, side)]
        rest = side - self.size
        steps = -(-rest // (self.size - self.shared))
        return [(i * rest // steps, i * rest // steps + self.size) for i in range(steps + 1)]

    def windows(self, height: int, width: int) -> list[Window]:
        """Return the tiles of an image, row by row."""
        columns = self.spans(width)
        return [(left, top, right, bottom) for top, bottom in self.spans(height) for left, right in columns]


def tile_dict(tiling: Tiling | None) -> dict[str, Any]:
    """Return tiles as the entries "tile" and "overlap" of a file; none without tiles."""
    return {} if tiling is None else {"tile": tiling.size, "overlap": tiling.overlap}


def read_tiling(values: Mapping[str, Any]) -> Tiling | None:
    """Read the entries of :func:`tile_dict`."""
    return Tiling(int(values["tile"]), float(values["overlap"])) if "tile" in values else None
