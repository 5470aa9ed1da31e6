"""Search the nearest neighbors of many vectors, in a time that does not depend on their distribution."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CELL = 1024
"""Mean number of vectors in a cell."""

PROBES = 4
"""Number of cells that a query is compared with."""

_MAX_CELL = 4 * CELL
_SAMPLE = 32  # vectors for each center of k-means
_ROUNDS = 5
_ROWS = 1024  # that are compared at once; with the largest cell their similarities take 16 MiB


class Neighbors(NamedTuple):
    """Neighbors of queries, sorted by query, the most similar first.

    Attributes:
        query: (M,) numbers of the queries.
        vector: (M,) numbers of their neighbors.
        similarity: (M,) inner products.
    """

    query: np.ndarray
    vector: np.ndarray
    similarity: np.ndarray


class NeighborIndex:
    """Index of unit vectors: k-means divides them into cells, and a query is compared with those in the nearest cells.

    The search is exact up to ``PROBES * CELL`` vectors, which are one cell. Of more it may miss neighbors, but a query
    is compared with about as many vectors, whatever their number. Larger cells than ``4 * CELL``, as of vectors that
    are almost equal, are divided into cells with the same center.

    Args:
        vectors: (N, F) unit vectors.

    Source:
        The inverted file of Jegou et al., "Product quantization for nearest neighbor search", PAMI 2011.
    """

    def __init__(self, vectors: Tensor):
        exact = len(vectors) <= PROBES * CELL
        centers = torch.zeros(1, vectors.shape[1]) if exact else _cluster(vectors, len(vectors) // CELL)
        cell = _nearest(vectors, centers)
        sizes = torch.bincount(cell, minlength=len(centers)).tolist()
        limit = max(1, len(vectors)) if exact else _MAX_CELL
        starts = [range(end - size, end, limit) for size, end in zip(sizes, np.cumsum(sizes).tolist(), strict=True)]
        self._numbers = cell.argsort(stable=True)
        self._vectors = vectors[self._numbers]
        self._bounds = [start for part in starts for start in part] + [len(vectors)]
        self._centers = centers.repeat_interleave(torch.tensor([len(part) for part in starts]), 0)

    def search(self, queries: Tensor, count: int, similarity: float) -> Neighbors:
        """Return the most similar vectors of each query.

        Args:
            queries: (Q, F) unit vectors.
            count: largest number of neighbors of a query.
            similarity: smallest inner product of a neighbor.
        """
        probes = min(PROBES, len(self._centers))
        cells = torch.cat(
            [_scores(part, self._centers).topk(probes).indices for part in queries.split(_ROWS)]
        ).flatten()
        rows = cells.argsort(stable=True) // probes
        found = [
            self._compare(queries, part, cell, count, similarity)
            for cell, own in enumerate(rows.split(torch.bincount(cells, minlength=len(self._centers)).tolist()))
            for part in own.split(_ROWS)
        ]
        query, vector, values = (torch.cat(column).numpy() for column in zip(*found, strict=True))
        order = np.lexsort((vector, -values, query))
        query, vector, values = query[order], vector[order], values[order]
        best = np.arange(len(query)) - np.searchsorted(query, query) < count
        return Neighbors(query[best], vector[best], values[best])

    def _compare(
        self, queries: Tensor, rows: Tensor, cell: int, count: int, similarity: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the neighbors in a cell of these rows of the queries: rows, numbers of vectors, similarity."""
        own = slice(self._bounds[cell], self._bounds[cell + 1])
        values = queries[rows] @ self._vectors[own].T
        some = values.amax(1) >= similarity  # few have neighbors, and a maximum is faster than sorting
        best, place = values[some].topk(min(count, values.shape[1]))
        near = best >= similarity
        return rows[some][:, None].expand_as(best)[near], self._numbers[own][place[near]], best[near]


def _cluster(vectors: Tensor, count: int) -> Tensor:
    """Return the centers (count, F) of k-means on a sample of the vectors; the centers of empty cells stay."""
    dice = torch.Generator().manual_seed(0)
    sample = vectors[torch.randperm(len(vectors), generator=dice)[: _SAMPLE * count]]
    centers = sample[:count].clone()
    for _ in range(_ROUNDS):
        cell = _nearest(sample, centers)
        size = torch.bincount(cell, minlength=count)[:, None]
        total = torch.zeros_like(centers).index_add_(0, cell, sample)
        centers = torch.where(size > 0, total / size.clamp(min=1), centers)
    return centers


def _nearest(vectors: Tensor, centers: Tensor) -> Tensor:
    # Small results that are kept between large ones fragment glibc's heap: 3.8 GB for a million vectors.
    nearest = torch.empty(len(vectors), dtype=torch.long)
    for rows, part in zip(nearest.split(_ROWS), vectors.split(_ROWS), strict=True):
        rows.copy_(_scores(part, centers).argmax(1))
    return nearest


def _scores(vectors: Tensor, centers: Tensor) -> Tensor:
    """Return the negative squared distances (N, C) of vectors to centers, up to a factor and a constant per vector."""
    return torch.addmm(centers.square().sum(1) / -2, vectors, centers.T)
