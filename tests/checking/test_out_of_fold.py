"""Out-of-fold probabilities on features, and the features themselves."""

import numpy as np
import pytest

from transxnet.checking.out_of_fold import out_of_fold_probabilities
from transxnet.utils.errors import UserError

pytest.importorskip("sklearn")


def clusters(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features around the center of each of three classes."""
    labels = np.arange(count) % 3
    return np.random.default_rng(seed).normal(0, 1, (count, 5)) + 4 * np.eye(3, 5)[labels], labels


def test_images_do_not_influence_their_own_probabilities():
    features, labels = clusters(90)
    wrong = labels.copy()
    wrong[[4, 40, 77]] = (wrong[[4, 40, 77]] + 1) % 3
    probabilities = out_of_fold_probabilities(features, wrong, 5)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == labels).mean() > 0.97
    assert (probabilities.argmax(1)[[4, 40, 77]] == labels[[4, 40, 77]]).all()


def test_rare_classes_get_a_probability_of_zero_where_untrained():
    features, labels = clusters(60)
    labels[-1] = 3  # a class with one image, without a warning
    probabilities = out_of_fold_probabilities(features, labels, 3)
    assert probabilities.shape == (60, 4)
    assert probabilities[-1, 3] == 0


def test_more_folds_than_images_of_a_class_are_refused():
    with pytest.raises(UserError, match=r"the largest class has 3 images, fewer than 4 folds\. Use --folds 3"):
        out_of_fold_probabilities(*clusters(9), folds=4)
