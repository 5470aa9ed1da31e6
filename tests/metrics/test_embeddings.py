"""Metrics of embeddings on cases with known values."""

import math

import numpy as np
import pytest

from transxnet.metrics.embeddings import EmbeddingEvaluation, effective_rank, embedding_std, knn_accuracy


def test_effective_rank_counts_equal_directions():
    points = np.concatenate([np.eye(4), -np.eye(4)]) + 7.0
    assert effective_rank(points) == pytest.approx(4)


def test_effective_rank_of_a_line_is_one():
    assert effective_rank(np.outer(np.arange(5.0), [1.0, 2.0, 3.0])) == pytest.approx(1)
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1)


def test_std_is_one_in_all_directions_and_zero_if_equal():
    spread = np.random.default_rng(0).normal(size=(4000, 16)).astype(np.float32)
    assert embedding_std(spread) == pytest.approx(1, abs=0.02)
    assert embedding_std(3 * spread) == pytest.approx(embedding_std(spread), abs=1e-5)
    assert embedding_std(np.ones((10, 4))) == pytest.approx(0, abs=1e-6)


def test_neighbors_of_separate_groups_are_right():
    pytest.importorskip("sklearn")
    dice = np.random.default_rng(0)
    groups = np.repeat([[10.0, 0.0], [0.0, 10.0]], 5, axis=0) + dice.normal(size=(10, 2))
    assert knn_accuracy(groups, np.repeat([0, 1], 5)) == 1


def test_image_is_not_its_own_neighbor():
    pytest.importorskip("sklearn")
    pairs = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    assert knn_accuracy(pairs, np.array([0, 1, 0, 1])) == 0
    assert math.isnan(knn_accuracy(pairs[:1], np.array([0])))


def test_metrics_without_labels_lack_the_accuracy():
    found = EmbeddingEvaluation(np.eye(3, dtype=np.float32), ["image"], np.zeros(3, int))
    assert list(found.metrics()) == ["effective_rank", "embedding_std"] and len(found) == 3


def test_non_finite_embeddings_have_no_metrics():
    found = EmbeddingEvaluation(np.full((3, 2), np.nan), ["a", "b"], np.zeros(3, int)).metrics()
    assert list(found) == ["knn_accuracy", "majority", "effective_rank", "embedding_std"]
    assert all(map(math.isnan, found.values()))
