"""Find near duplicates by the features of a classifier."""

import numpy as np
import torch
import torch.nn.functional as F

from transxnet.checking.duplicates import NearDuplicates
from transxnet.checking.neighbor_index import NeighborIndex

DISTANCE = 0.3
"""Largest distance of near duplicates, as a fraction of the median distance between an image and its nearest one."""

_NEIGHBORS = 5  # with the image itself


def feature_duplicates(features: np.ndarray, numbers: np.ndarray) -> NearDuplicates:
    """Find the pairs of images whose features are much closer than those of most images to their nearest neighbor.

    The features are standardized and scaled to length 1, so that the threshold suits any model and data.

    Args:
        features: (N, F) features of the images.
        numbers: (N,) numbers of the images.

    Returns:
        The pairs, the most similar first. Their similarity is the cosine of the standardized features.
    """
    if len(numbers) < 3:  # two images have no usual distance
        return NearDuplicates()
    vectors = torch.from_numpy(features.astype(np.float32))
    vectors = F.normalize((vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6))
    near = NeighborIndex(vectors).search(vectors, _NEIGHBORS, -1)
    others = near.query != near.vector
    query, vector, similarity = (column[others] for column in near)
    distance = np.sqrt(np.maximum(2 - 2 * similarity, 0))
    nearest = np.full(len(numbers), np.inf)
    np.minimum.at(nearest, query, distance)
    close = distance <= DISTANCE * np.median(nearest)
    pairs, first = np.unique(np.sort(numbers[np.stack([query, vector], 1)[close]], 1), axis=0, return_index=True)
    values = similarity[close][first].astype(float)
    order = np.argsort(-values, kind="stable")
    return NearDuplicates(pairs[order], values[order])
