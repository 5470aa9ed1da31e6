"""Near duplicates by features."""

import numpy as np
import pytest

from transxnet.checking.all_images import AllImages
from transxnet.checking.duplicate_findings import near_findings
from transxnet.checking.duplicates import NearDuplicates
from transxnet.checking.feature_duplicates import feature_duplicates
from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.datasets.image_collection import ArrayImages


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1000, 0), (1, 500)])
def test_pairs_that_are_much_closer_than_others_are_found(scale, offset):
    dice = np.random.default_rng(0)
    features = dice.normal(size=(200, 16))
    features[150:160] = features[:10] + 0.1 * dice.normal(size=(10, 16))
    near = feature_duplicates(features * scale + offset, 1000 + np.arange(200))
    assert sorted(map(tuple, near.pairs.tolist())) == [(1000 + i, 1150 + i) for i in range(10)]
    assert (np.diff(near.similarity) <= 0).all() and (near.similarity > 0.95).all()


@pytest.mark.parametrize("count", [0, 2, 50])
def test_images_at_the_usual_distances_are_no_duplicates(count):
    near = feature_duplicates(np.random.default_rng(0).normal(size=(count, 8)), np.arange(count))
    assert near.pairs.shape == (0, 2) and near.similarity.shape == (0,)


def test_pairs_are_found_once_with_the_similarity_of_pixels():
    pixels = ArrayImages(np.zeros((4, 4, 4), np.uint8))
    images = AllImages({"train": ClassificationSet(pixels, list("abcd"), ["x", "y"], np.array([0, 1, 0, 1]))})
    by_pixels = NearDuplicates(np.array([[0, 1]]), np.array([0.98]))
    by_features = NearDuplicates(np.array([[0, 1], [2, 3]]), np.array([0.999, 0.97]))
    found = {finding.images: finding.detail for finding in near_findings(images, by_pixels, by_features)}
    assert found == {(0, 1): "similarity 0.980, 1 x, 1 y", (2, 3): "similarity of features 0.970, 1 x, 1 y"}
