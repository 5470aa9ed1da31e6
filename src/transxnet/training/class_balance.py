"""Weights of classes in the loss and in the sampling of training images."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from transxnet.data.datasets.classification_dataset import ClassificationSet
from transxnet.data.formats.timm_readers import Stream
from transxnet.data.reading.table_files import open_table
from transxnet.runs.task_configs import ClassifyConfig
from transxnet.utils.errors import UserError
from transxnet.utils.text_files import read_json

BALANCED = "balanced"
"""Weights N / (C * count of the class), as in scikit-learn."""

ACCEPTED = "a JSON object or a CSV file with the columns class and weight, with a number of at least 0 for each class"

_EXPONENTS = {"balanced": 1.0, "sqrt": 0.5}


def check_balance(config: ClassifyConfig, train: ClassificationSet | Stream) -> None:
    """Check that the weights of classes and images are possible with the training images.

    Raises:
        UserError: the labels of a stream are not known in advance, or mixup would mix images of different weights.
    """
    for option, given in (("sampler", config.sampler), ("class_weights", config.class_weights == BALANCED or None)):
        if given is not None and isinstance(train, Stream):
            raise UserError(
                f"{option} needs the labels of all training images, which the stream {train.name} does not have. "
                "Accepted for streams: --class-weights FILE."
            )
    weighted = isinstance(train, ClassificationSet) and train.weights is not None and config.weighted_loss
    if weighted and (config.mixup or config.cutmix):
        raise UserError(
            "mixup and cutmix mix images of different weights, and the data has weights. Use --mixup 0 and --cutmix 0, "
            "or --weighted-loss false."
        )


def class_weights(source: str, train: ClassificationSet | Stream) -> Tensor:
    """Return the weights (C,) of the classes in the loss.

    Args:
        source: "balanced", or a file with a weight for each class.
        train: training images.

    Raises:
        UserError: the file cannot be read, or its classes are not those of the images.
    """
    if source == BALANCED:
        assert isinstance(train, ClassificationSet)
        counts = _counts(train)
        return torch.tensor(len(train) / (len(counts) * counts), dtype=torch.float32)
    return torch.tensor(_read_weights(Path(source), train.class_names), dtype=torch.float32)


def draw_probabilities(sampler: str, train: ClassificationSet | Stream) -> np.ndarray:
    """Return the probability (N,) of each training image.

    Args:
        sampler: "balanced" draws all classes equally often, "sqrt" in proportion to the square root of their count.
        train: training images.
    """
    assert isinstance(train, ClassificationSet)
    weights = _counts(train)[train.own_labels] ** -_EXPONENTS[sampler]
    return weights / weights.sum()


def _counts(train: ClassificationSet) -> np.ndarray:
    """Return the number of images of each class; 1 for classes without images, so that their weight is finite."""
    return np.maximum(np.bincount(train.own_labels, minlength=len(train.class_names)), 1).astype(float)


def _read_weights(file: Path, class_names: list[str]) -> list[float]:
    try:
        if file.suffix.lower() == ".json":
            weights = {str(name): float(weight) for name, weight in read_json(file).items()}
        else:
            table = open_table(file)
            if absent := {"class", "weight"}.difference(table.columns):
                raise ValueError(f"column {min(absent)!r} is missing. Columns found: {', '.join(table.columns)}")
            rows = [cells or () for _, cells in table.rows(("class", "weight"))]
            weights = {str(name): float(str(weight)) for name, weight in rows}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read the class weights in {file}: {error}. Accepted: {ACCEPTED}.") from error
    missing, unknown = (
        [n for n in one if n not in other] for one, other in ((class_names, weights), (weights, class_names))
    )
    if missing or unknown:
        problem = f"class {missing[0]!r} has no weight" if missing else f"the data has no class {unknown[0]!r}"
        raise UserError(f"{file}: {problem}. Classes of the data: {', '.join(class_names[:10])}.")
    values = [weights[name] for name in class_names]
    if not np.isfinite(values).all() or min(values) < 0 or not any(values):
        raise UserError(f"{file}: weights must be numbers of at least 0, and one above 0, got {values[:10]}.")
    return values
