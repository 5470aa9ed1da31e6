"""The index of nearest neighbors, compared with all inner products."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from transxnet.checking import neighbor_index
from transxnet.checking.neighbor_index import NeighborIndex


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.fixture
def small_cells(monkeypatch):
    monkeypatch.setattr(neighbor_index, "CELL", 8)
    monkeypatch.setattr(neighbor_index, "_MAX_CELL", 32)


@pytest.mark.parametrize("similarity", [-1, 0.5, 0.9])
def test_few_vectors_are_searched_exactly(similarity, monkeypatch):
    monkeypatch.setattr(neighbor_index, "_ROWS", 64)
    vectors, queries = unit(300, 6), unit(200, 6, seed=1)
    near = NeighborIndex(vectors).search(queries, 4, similarity)
    best, numbers = (queries @ vectors.T).topk(4)
    within = best >= similarity
    assert near.query.tolist() == within.nonzero()[:, 0].tolist()
    assert near.vector.tolist() == numbers[within].tolist()
    np.testing.assert_allclose(near.similarity, best[within], atol=1e-6)


def test_near_vectors_among_many_are_found(small_cells):
    vectors = unit(2000, 12)
    queries = F.normalize(vectors + 0.1 * unit(2000, 12, seed=1), dim=1)
    near = NeighborIndex(vectors).search(queries, 1, 0.9)
    assert (near.query == near.vector).sum() >= 0.99 * len(vectors)


def test_equal_vectors_are_divided_into_cells_of_limited_size(small_cells, monkeypatch):
    compared = []
    compare = NeighborIndex._compare

    def count(self, queries, rows, cell, *options):
        compared.append(self._bounds[cell + 1] - self._bounds[cell])
        return compare(self, queries, rows, cell, *options)

    monkeypatch.setattr(NeighborIndex, "_compare", count)
    near = NeighborIndex(unit(1, 12).expand(2000, 12)).search(unit(1, 12).expand(5, 12), 4, 0.9)
    assert near.query.tolist() == np.repeat(range(5), 4).tolist()
    assert max(compared) == 32
