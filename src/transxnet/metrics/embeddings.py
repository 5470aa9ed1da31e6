"""Metrics of embeddings: signs of collapse, and the accuracy of their nearest neighbors."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transxnet.metrics.intervals import Resampled

NEIGHBORS = 20
"""Nearest neighbors that vote for the class of an image."""
TEMPERATURE = 0.07
"""Temperature of the weights of their votes, exp(cosine similarity / temperature)."""


@dataclass(frozen=True)
class EmbeddingEvaluation(Resampled):
    """Embeddings of images, and their labels if there are any.

    Attributes:
        embeddings: (N, F) float32.
        class_names: C names; fewer than two without labels.
        labels: (N,) class indices; they are not used without labels.
    """

    embeddings: np.ndarray
    class_names: Sequence[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def labeled(self) -> bool:
        """Whether the images have labels."""
        return len(self.class_names) > 1

    def metrics(self) -> dict[str, float]:
        """Return all metrics; NaN if an embedding is non-finite."""
        names = [*(["knn_accuracy", "majority"] if self.labeled else []), "effective_rank", "embedding_std"]
        if not np.isfinite(self.embeddings).all():
            return dict.fromkeys(names, math.nan)
        figures = {
            "effective_rank": effective_rank(self.embeddings),
            "embedding_std": embedding_std(self.embeddings),
        }
        if self.labeled:
            figures["knn_accuracy"] = knn_accuracy(self.embeddings, self.labels)
            figures["majority"] = float(np.bincount(self.labels).max() / len(self))
        return {name: figures[name] for name in names}

    def resampler(self) -> Callable[[np.ndarray], Mapping[str, float]]:
        """Return no metrics: an image that is drawn twice would be its own nearest neighbor."""
        return lambda indices: {}


def effective_rank(embeddings: np.ndarray) -> float:
    """Return the number of directions that centered embeddings (N, F) use: 1 to F; low values show a collapse.

    It is the exponential of the entropy of the normalized singular values.

    Source:
        Roy and Vetterli, "The effective rank", 2007; Garrido et al., "RankMe", ICML 2023, for choosing networks by it.
    """
    values = np.linalg.svd(embeddings - embeddings.mean(axis=0), compute_uv=False).astype(np.float64)
    shares = values / max(values.sum(), np.finfo(np.float64).tiny)
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def embedding_std(embeddings: np.ndarray) -> float:
    """Return the standard deviation of embeddings (N, F) of length 1, times the square root of F.

    It is 1 for embeddings in all directions, and 0 if all are equal.

    Source:
        Chen and He, "Exploring simple Siamese representation learning", CVPR 2021, Figure 2.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.maximum(lengths, np.finfo(np.float32).tiny)
    return float(unit.std(axis=0).mean() * math.sqrt(embeddings.shape[1]))


def knn_accuracy(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of images whose class their nearest neighbors among the others predict.

    Args:
        embeddings: (N, F).
        labels: (N,) class indices.

    Source:
        Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR 2018.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(embeddings) < 2:
        return math.nan
    search = NearestNeighbors(n_neighbors=min(NEIGHBORS, len(embeddings) - 1), metric="cosine").fit(embeddings)
    distances, neighbors = search.kneighbors()  # without arguments, an image is not its own neighbor
    votes = np.zeros((len(labels), labels.max() + 1))
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[neighbors]), np.exp((1 - distances) / TEMPERATURE))
    return float((votes.argmax(axis=1) == labels).mean())
