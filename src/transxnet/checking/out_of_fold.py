"""Class probabilities of all images by classifiers that were not trained on them: cross-validation on features."""

import warnings

import numpy as np

from transxnet.utils.errors import UserError
from transxnet.utils.optional_packages import require_package

MAX_ITERATIONS = 1000


def out_of_fold_probabilities(features: np.ndarray, labels: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """Return the probabilities (N, C) of each image's classes by a logistic regression on the other folds.

    As in the tutorials of cleanlab, the features of a trained network replace the training of a network for each fold.
    The folds have equal fractions of each class.

    Args:
        features: (N, F).
        labels: (N,) class indices, 0 to C - 1, each of which occurs.
        folds: number of folds.
        seed: seed of the folds.

    Raises:
        UserError: scikit-learn is not installed, or no class has as many images as there are folds.
    """
    require_package("sklearn", "transxnet[samples]", "--folds")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    most = int(np.bincount(labels).max())
    if most < folds:
        raise UserError(f"the largest class has {most} images, fewer than {folds} folds. Use --folds {max(2, most)}.")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer images than folds
        warnings.simplefilter("ignore", RuntimeWarning)
        return cross_val_predict(model, features, labels, cv=cut, method="predict_proba")
